"""A chosen GPU that is not used: reported in capitals, with the reason; tried again when that can help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import one_click
from installer import preflight
from installer.environment import environment
from installer.hardware import machine
from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu
from installer.layout import Layout
from installer.llama_cpp import unused_gpu
from installer.llama_cpp.unused_gpu import BuildReasons
from installer.llama_cpp.wheel import UNREACHABLE
from installer.runner import Runner
from installer.torch import torch_packages
from tests.installer.stage import calls, make_environment

RTX = Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (550, 54)),))
OLD = Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (390, 1)),))
KEPLER = Machine(cards=(NvidiaGpu("GTX 680", (3, 0), (470, 82)),))
TOO_OLD = {"CUDA 12.4": "it requires NVIDIA driver 525.60 or newer, but 390.1 is installed"}
NO_CODE = {"CUDA 11.8": "it has no code for the GTX 680 (compute capability 3.0)"}


@pytest.mark.parametrize(
    ("gpu", "here", "llama", "reasons", "why", "words"),
    [
        ("A", Machine(), "CUDA 12.4", BuildReasons({}, {}, []), "driver", ["lists no GPU", "nvidia-smi"]),
        ("A", RTX, "CUDA 12.4", BuildReasons({}, {}, []), "driver", ["CUDA 12.4 is installed but finds none"]),
        (
            "A",
            OLD,
            "the processor",
            BuildReasons(TOO_OLD, {}, []),
            "driver",
            ["too old", "525.60", "Install the current NVIDIA"],
        ),
        (
            "A",
            RTX,
            "the processor",
            BuildReasons({}, {"CUDA 12.4": UNREACHABLE, "Vulkan": UNREACHABLE}, []),
            "network",
            ["CUDA 12.4, Vulkan", "github.com", "next start tries again"],
        ),
        (
            "A",
            RTX,
            "the processor",
            BuildReasons({}, {"Vulkan": "none"}, ["CUDA 12.4: a library is missing"]),
            "failed",
            ["a library is missing", "driver"],
        ),
        (
            "A",
            KEPLER,
            "the processor",
            BuildReasons(NO_CODE, {"Vulkan": "none"}, []),
            "card",
            ["no code for the GTX 680"],
        ),
        (
            "B",
            Machine(glibc=(2, 31)),
            "the processor",
            BuildReasons({}, {"ROCm": "none"}, []),
            "glibc",
            ["2.35", "2.31"],
        ),
        ("B", Machine(glibc=(2, 36)), "Vulkan", BuildReasons({}, {}, []), "driver", ["mesa-vulkan-drivers"]),
        (
            "D",
            Machine("Windows"),
            "the processor",
            BuildReasons({}, {}, []),
            "none",
            ["YOU CHOSE INTEL ARC", "Intel driver"],
        ),
        ("C", Machine("Darwin", "arm64"), "Metal", BuildReasons({}, {}, []), "driver", ["virtual machines"]),
    ],
)
def test_the_sentence_says_why_and_what_to_do(
    gpu: str, here: Machine, llama: str, reasons: BuildReasons, why: str, words: list[str]
) -> None:
    kept = unused_gpu.record_unused_gpu(gpu, here, llama, reasons)
    assert kept["why"] == why
    assert "BUT LLAMA.CPP FINDS NO GPU AND USES THE CPU" in kept["said"]
    assert all(word in kept["said"] for word in words), kept["said"]


def test_it_is_tried_again_only_when_that_can_help() -> None:
    asked: list[str] = []

    def reachable(url: str) -> bool:
        asked.append(url)
        return True

    driver = unused_gpu.record_unused_gpu("A", RTX, "the processor", BuildReasons(TOO_OLD, {}, []))
    assert unused_gpu.retry_reason(driver, RTX, reachable) == ""
    assert not asked
    newer = Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (580, 65)),))
    assert "have changed" in unused_gpu.retry_reason(driver, newer, reachable)
    network = None
    for _ in range(unused_gpu.TRIES):
        network = unused_gpu.record_unused_gpu(
            "A", RTX, "the processor", BuildReasons({}, {"CUDA 12.4": UNREACHABLE}, []), network
        )
        tried = unused_gpu.retry_reason(network, RTX, reachable)
    assert tried == "", "or an index that only looks reachable costs every start"
    first = unused_gpu.record_unused_gpu("A", RTX, "the processor", BuildReasons({}, {"CUDA 12.4": UNREACHABLE}, []))
    assert "is reachable now" in unused_gpu.retry_reason(first, RTX, reachable)
    assert unused_gpu.retry_reason(first, RTX, lambda _: False) == ""


class Stage:
    """An installation for an RTX 3060 on a shell script as Python."""

    def __init__(self, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout, self.here, self.network = layout, RTX, True
        self.files = {"wheels": ""}  # beside the environment's Python, when it is made
        monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
        monkeypatch.setattr(environment, "make_environment", self.make)
        monkeypatch.setattr(preflight, "NEEDED_NEW", 0, raising=False)
        monkeypatch.setattr(machine, "detect_machine", lambda: self.here)
        monkeypatch.setattr(torch_packages, "install_torch_packages", lambda packages, build: None)
        monkeypatch.setattr(unused_gpu, "is_reachable", lambda url: self.network)
        monkeypatch.setenv("GPU_CHOICE", "A")
        monkeypatch.setenv("LAUNCH_AFTER_INSTALL", "no")
        monkeypatch.chdir(layout.root)

    def make(self, runner: Runner) -> None:
        make_environment(runner.layout)
        for name, text in self.files.items():
            self.file(name).write_text(text)

    def start(self) -> dict[str, Any]:
        assert one_click.main([]) == 0
        state: dict[str, Any] = json.loads(self.layout.state.read_text())
        return state

    def file(self, name: str) -> Path:
        return self.layout.python.parent / name


@pytest.fixture
def stage(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(layout, monkeypatch)


def test_the_last_line_says_that_no_card_is_seen_until_one_is(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    state = stage.start()
    assert (state["llama"], state["wanted"]["why"]) == ("CUDA 12.1", "driver")
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("YOU CHOSE NVIDIA, BUT LLAMA.CPP FINDS NO")
    before = len(calls(stage.layout))
    assert stage.start()["wanted"] == state["wanted"]
    assert not any("install" in call for call in calls(stage.layout)[before:])
    said = capsys.readouterr().out
    assert said.strip().splitlines()[-1].startswith("YOU CHOSE NVIDIA")
    assert "[1/5]" not in said, "nothing has changed, so nothing is installed"
    stage.file("cards").write_text("CUDA0\n")
    assert "wanted" not in stage.start()
    said = capsys.readouterr().out
    assert "now finds the GPU: CUDA0" in said
    assert "[1/5]" not in said
    assert "YOU CHOSE" not in said


def test_a_card_that_is_seen_needs_no_words(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.files["cards"] = "CUDA0\n"
    state = stage.start()
    assert "wanted" not in state
    said = capsys.readouterr().out
    assert "llama.cpp finds CUDA0." in said
    assert "YOU CHOSE" not in said
    assert not any("whl/cu124" in call or "whl/vulkan" in call for call in calls(stage.layout))


def test_what_could_not_be_fetched_is_fetched_when_the_index_answers(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.files, stage.network = {"unreachable": ""}, False
    state = stage.start()
    assert (state["llama"], state["wanted"]["why"], state["wanted"]["tries"]) == ("the processor", "network", 1)
    assert "abetlen.github.io" in capsys.readouterr().out.strip().splitlines()[-1]
    before = len(calls(stage.layout))
    stage.start()
    assert "[1/5]" not in capsys.readouterr().out
    assert len(calls(stage.layout)) == before + 1

    stage.network = True
    state = stage.start()
    assert (state["llama"], state["wanted"]["tries"]) == ("the processor", 2)
    assert "kept unchanged" in state["llama_how"], "what computes is not thrown away for what cannot be had"

    stage.file("unreachable").unlink()
    stage.file("wheels").touch()
    stage.file("cards").write_text("CUDA0\n")
    state = stage.start()
    assert state["llama"] == "CUDA 12.1"
    assert "wanted" not in state


def test_a_newer_driver_is_a_reason_to_try_again(stage: Stage) -> None:
    stage.here = OLD
    stage.files = {}
    state = stage.start()
    assert state["llama"] == "the processor"
    assert not any("whl/cu1" in call for call in calls(stage.layout)), "none runs with this driver"
    stage.here = RTX
    stage.file("wheels").touch()
    stage.file("cards").write_text("CUDA0\n")
    assert stage.start()["llama"] == "CUDA 12.1"


def test_on_a_card_whose_code_is_missing_the_next_kind_is_tried(stage: Stage) -> None:
    """The CUDA builds crash at the first token on the GPU; Vulkan's works."""
    stage.files["no-compute"] = "CUDA error: no kernel image is available for execution\n" * 2
    stage.files["cards"] = "Vulkan0\n"
    state = stage.start()
    assert state["llama"] == "Vulkan"
    assert "it has no code for this GPU" in state["llama_how"]


@pytest.mark.parametrize("seen", [True, False])
def test_a_build_that_computes_but_sees_no_card_gives_way_to_the_next_kind(stage: Stage, seen: bool) -> None:
    stage.files |= {"vulkan-cards": "Vulkan0\n"} if seen else {}
    state = stage.start()
    fetched = [call for call in calls(stage.layout) if "abetlen" in call and "--dry-run" not in call]
    kinds = [call.partition("whl/")[2].split()[0] for call in fetched]
    if seen:
        assert (state["llama"], "wanted" in state) == ("Vulkan", False)
        assert kinds == ["cu121", "vulkan"], "another CUDA sees no more"
    else:
        assert (state["llama"], "wanted" in state) == ("CUDA 12.1", True)
        assert kinds == ["cu121", "vulkan", "cu121"], "where none sees it, the first stays, and no CUDA is lost"


@pytest.mark.parametrize(("name", "key"), [("USE_CUDA118", "cuda118"), ("USE_CUDA128", "cuda128")])
def test_another_cuda_asked_for_later_is_installed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, key: str
) -> None:
    stage.start()
    capsys.readouterr()
    monkeypatch.setenv(name, "yes")
    state = stage.start()
    assert state[key] is True
    assert "You chose another GPU" in capsys.readouterr().out
    stage.start()
    assert "[1/5]" not in capsys.readouterr().out, "heard once"
