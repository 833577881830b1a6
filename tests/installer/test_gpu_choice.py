"""The choice of the GPU: preset, remembered, detected, or asked until valid; and the CUDA version for it."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from installer.gpu_choice import answers_differ, changed_answers, choose_gpu, take_answers
from installer.hardware import gpu
from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu
from installer.layout import Layout
from installer.state import read_state, write_state

H200 = Machine(cards=(NvidiaGpu("NVIDIA H200", (9, 0), (570, 86)),))


@pytest.fixture(autouse=True)
def no_cards_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "list_pci_gpus", list)
    monkeypatch.delenv("USE_CUDA128", raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def nvidia(*, cuda118: bool = False, cuda128: bool = False, **more: Any) -> dict[str, Any]:
    return {"gpu": "A", "cuda118": cuda118, "cuda128": cuda128, **more}


def test_the_environment_answers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_CHOICE", "a")
    monkeypatch.setenv("USE_CUDA118", "Yes")
    assert choose_gpu({"gpu": "N"}) == nvidia(cuda118=True, asked={"cuda118": True})
    monkeypatch.setenv("USE_CUDA118", "no")
    assert choose_gpu({"gpu": "N"}) == nvidia(cuda128=True, asked={"cuda118": False})
    monkeypatch.setenv("USE_CUDA128", "no")
    assert choose_gpu({"gpu": "N"}) == nvidia(asked={"cuda118": False, "cuda128": False})


def test_an_answer_that_followed_from_another_one_goes_with_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA 11.8 was requested, and so not 12.8; if it is no longer requested, the GPU decides."""
    monkeypatch.setenv("USE_CUDA118", "yes")
    state = choose_gpu({"gpu": "A"}, H200)
    monkeypatch.setenv("USE_CUDA118", "no")
    assert choose_gpu(state, H200)["cuda128"] is True


def test_the_last_answer_is_kept(layout: Layout) -> None:
    assert choose_gpu({"gpu": "A", "cuda118": True}) == nvidia(cuda118=True)
    assert choose_gpu({"gpu": "B"}) == {"gpu": "B", "cuda118": False, "cuda128": False}


def test_without_a_terminal_it_detects_and_says_why(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_gpu({}, H200) == nvidia(cuda128=True)
    said = capsys.readouterr().out
    assert "A, NVIDIA, because the NVIDIA driver lists NVIDIA H200" in said
    assert "NVIDIA H200, compute capability 9.0, driver 570.86: CUDA 12.8." in said


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("\n\n", nvidia(cuda128=True)),
        ("AB\nx\na\nperhaps\ny\n", nvidia(cuda118=True)),
        ("n\n", {"gpu": "N", "cuda118": False, "cuda128": False}),
        ("", nvidia(cuda128=True)),
    ],
)
def test_a_terminal_is_asked_until_it_answers(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, typed: str, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert choose_gpu({}, H200) == answer


@pytest.mark.parametrize(
    ("card", "stack", "said"),
    [
        (NvidiaGpu("RTX 5090", (12, 0), (572, 16)), nvidia(cuda128=True), "CUDA 12.8."),
        (NvidiaGpu("RTX 3060", (8, 6), (580, 65)), nvidia(cuda128=True), "CUDA 12.8."),
        (NvidiaGpu("RTX 3060", (8, 6), (550, 54)), nvidia(), "CUDA 12.1 (CUDA 12.8: it requires NVIDIA driver 570.26"),
        (NvidiaGpu("GTX 1080", (6, 1), (580, 65)), nvidia(), "no code for the GTX 1080 (compute capability 6.1)"),
        (NvidiaGpu("GTX 1080", (6, 1), (470, 82)), nvidia(cuda118=True, cuda118_driver="470.82"), "CUDA 11.8, because"),
        (NvidiaGpu("GTX 680", (3, 0), (470, 82)), nvidia(), "driver 470.82: CUDA 12.1"),
        (NvidiaGpu("Unknown"), nvidia(cuda128=True), "Unknown: CUDA 12.8."),
    ],
)
def test_card_and_driver_decide_the_cuda(
    layout: Layout, capsys: pytest.CaptureFixture[str], card: NvidiaGpu, stack: dict[str, Any], said: str
) -> None:
    assert choose_gpu({"gpu": "A"}, Machine(cards=(card,))) == stack
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("environ", "before", "card", "said"),
    [
        (
            {"USE_CUDA128": "yes"}, {}, NvidiaGpu("RTX 3060", (8, 6), (550, 54)),
            "CUDA 12.8 was requested, but does not run on this machine: it requires NVIDIA driver 570.26 or newer, but "
            "550.54 is installed. CUDA 12.1 does (USE_CUDA118=no and USE_CUDA128=no).",
        ),
        ({"USE_CUDA128": "1"}, {}, NvidiaGpu("GTX 1080", (6, 1), (580, 65)), "no code for the GTX 1080"),
        ({"USE_CUDA128": "no"}, {}, NvidiaGpu("RTX 5090", (12, 0), (580, 65)), "CUDA 12.8 does (USE_CUDA128=yes)."),
        ({"USE_CUDA118": "yes"}, {}, NvidiaGpu("RTX 5090", (12, 0), (580, 65)), "CUDA 11.8 was requested"),
        ({}, {"cuda118": True}, NvidiaGpu("RTX 5090", (12, 0), (580, 65)), "CUDA 11.8 was requested"),
        ({"USE_CUDA118": "no"}, {}, NvidiaGpu("GTX 1080", (6, 1), (470, 82)), "CUDA 11.8 does (USE_CUDA118=yes)."),
        ({"USE_CUDA128": "yes"}, {}, NvidiaGpu("GTX 680", (3, 0), (470, 82)), "but 470.82 is installed."),
        ({"USE_CUDA128": "yes"}, {}, NvidiaGpu("RTX 3060", (8, 6), (580, 65)), ""),
        ({"USE_CUDA118": "yes"}, {}, NvidiaGpu("RTX 3060", (8, 6), (580, 65)), ""),
        ({"USE_CUDA128": "yes"}, {}, None, ""),
    ],
)  # fmt: skip
def test_a_cuda_that_was_asked_for_and_does_not_run_here_is_said(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environ: dict[str, str],
    before: dict[str, Any], card: NvidiaGpu | None, said: str,
) -> None:  # fmt: skip
    """It is accepted anyway: the driver may be updated before the next start."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    chosen = choose_gpu({"gpu": "A", **before}, Machine(cards=(card,) if card else ()))
    for name, value in environ.items():
        assert chosen[name.removeprefix("USE_").lower()] is (value != "no")
    out = capsys.readouterr().out
    assert said in out
    assert ("was requested, but does not run" in out) is bool(said)


def test_the_newest_of_several_cards_decides(layout: Layout) -> None:
    cards = (NvidiaGpu("GT 710", (3, 5), (580, 65)), NvidiaGpu("RTX 4090", (8, 9), (580, 65)))
    assert choose_gpu({"gpu": "A"}, Machine(cards=cards)) == nvidia(cuda128=True)


def test_what_an_old_driver_decided_is_decided_anew(layout: Layout) -> None:
    before = nvidia(cuda118=True, cuda118_driver="470.82")
    card = NvidiaGpu("RTX 3060", (8, 6), (580, 65))
    assert choose_gpu(before, Machine(cards=(card,))) == nvidia(cuda128=True)
    assert choose_gpu(nvidia(cuda118=True), Machine(cards=(card,))) == nvidia(cuda118=True), "the user's own answer"


@pytest.mark.parametrize(
    ("before", "environ", "heard"),
    [
        ({"gpu": "N"}, {}, {}),
        ({"gpu": "N"}, {"GPU_CHOICE": "n"}, {}),
        ({"gpu": "N"}, {"GPU_CHOICE": "A"}, {"gpu": "A"}),
        ({"gpu": "N"}, {"GPU_CHOICE": " "}, {}),
        (nvidia(cuda118=True), {"USE_CUDA118": ""}, {}),
        (nvidia(), {"GPU_CHOICE": "A", "USE_CUDA118": "yes"}, {"cuda118": True}),
        (nvidia(), {"USE_CUDA118": "yes"}, {"cuda118": True}),
        (nvidia(), {"USE_CUDA118": "no"}, {}),
        (nvidia(cuda118=True), {"USE_CUDA118": "no"}, {"cuda118": False}),
        (nvidia(cuda118=True), {"USE_CUDA128": "yes"}, {"cuda118": False, "cuda128": True}),
        (nvidia(), {"USE_CUDA128": "1"}, {"cuda128": True}),
        (nvidia(cuda128=True), {"USE_CUDA128": "no"}, {"cuda128": False}),
        (nvidia(cuda118=True), {"USE_CUDA118": "y", "USE_CUDA128": "y"}, {}),
        ({"gpu": "A", "cuda118": False}, {"USE_CUDA128": "no"}, {}),
        ({"gpu": "N"}, {"USE_CUDA118": "yes"}, {}),
    ],
)
def test_answers_given_later_are_heard_once(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, Any],
    environ: dict[str, str],
    heard: dict[str, Any],
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert changed_answers(before) == heard
    assert answers_differ(before, heard) is bool(heard)
    after = choose_gpu(before, H200)
    assert {key: after[key] for key in heard} == heard
    assert changed_answers(after) == {}, "or it would be installed at every start"
    for name in environ:
        monkeypatch.delenv(name)
    assert changed_answers(after) == {}
    later = choose_gpu(after, H200)
    assert {key: later[key] for key in heard} == heard, "the next update keeps it"


@pytest.mark.parametrize("name", ["USE_CUDA118", "USE_CUDA128"])
def test_an_answer_that_changes_nothing_is_remembered_for_updates(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without it, another driver would decide differently later."""
    key, card = name.removeprefix("USE_").lower(), NvidiaGpu("RTX 3060", (8, 6), (550, 54))
    old = Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (470, 82)),))
    newer = {"cuda118": old, "cuda128": H200}[key]
    layout.files.mkdir()
    write_state(layout, choose_gpu({"gpu": "A"}, Machine(cards=(card,))))
    assert choose_gpu(read_state(layout), newer)[key] is True
    monkeypatch.setenv(name, "no")
    assert take_answers(layout) == {}
    monkeypatch.delenv(name)
    assert choose_gpu(read_state(layout), newer)[key] is False
    monkeypatch.setenv(name, "yes")
    assert take_answers(layout)[key] is True
    assert choose_gpu(read_state(layout), newer)[key] is True
