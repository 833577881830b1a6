"""What counts as a change: each requirements file and build table separately, and the same in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from installer.environment import fingerprints as module
from installer.environment.fingerprints import changed_parts, fingerprints
from installer.environment.plan import what_to_install
from installer.environment.requirements import RECIPE, requirements_fingerprint
from installer.layout import Layout
from installer.llama_cpp import llama_builds
from installer.torch import torch_builds
from installer.torch.torch_builds import TorchBuild
from tests.installer.stage import finished

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(layout: Layout) -> Layout:
    for name in module.TORCH_FILES:
        (layout.root / name).write_text("transformers==1\n")
    return layout


def test_each_change_is_noticed_in_its_own_part(project: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprints(project)
    state = {"parts": before, "torch": True}
    assert changed_parts(project, state) == set()

    text = project.requirements.read_text()
    project.requirements.write_text(text.replace("gradio==1.0", "gradio==1.1"))
    assert changed_parts(project, state) == {"main"}
    project.requirements.write_text(text.replace("llama-cpp-python==9", "llama-cpp-python==10"))
    assert changed_parts(project, state) == {"llama"}
    project.requirements.write_text(text)

    for name in module.TORCH_FILES:
        (project.root / name).write_text("transformers==2\n")
        assert changed_parts(project, state) == {"torch"}
        assert changed_parts(project, {**state, "torch": False}) == set(), "what is not there need not change"
        (project.root / name).write_text("transformers==1\n")

    with monkeypatch.context() as patch:
        patch.setattr(llama_builds, "LLAMA_WHEELS", "https://example.invalid")
        assert changed_parts(project, state) == {"llama"}
    with monkeypatch.context() as patch:
        patch.setattr(torch_builds, "STACKS", (TorchBuild("new", "torch==3"),))
        assert changed_parts(project, state) == {"torch"}
    assert changed_parts(project, state) == set()


def test_line_ends_are_no_change(project: Layout) -> None:
    state = {"parts": fingerprints(project)}
    project.requirements.write_bytes(project.requirements.read_bytes().replace(b"\n", b"\r\n"))
    assert changed_parts(project, state) == set()


def test_stamps_are_the_same_in_every_process(project: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set is written in another order in each process: that would install again at each start."""
    monkeypatch.setattr(llama_builds, "LIBRARIES", frozenset({"a", "b", "c", "d"}), raising=False)
    code = (
        "import sys; from pathlib import Path"
        "\nfrom installer.layout import Layout"
        "\nfrom installer.llama_cpp import llama_builds"
        "\nllama_builds.LIBRARIES = frozenset({'a', 'b', 'c', 'd'})"
        "\nfrom installer.environment.fingerprints import fingerprints; print(fingerprints(Layout(Path(sys.argv[1]))))"
    )
    for seed in ("1", "2", "3"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        said = subprocess.run(
            [sys.executable, "-c", code, str(project.root)], cwd=ROOT, env=environ, capture_output=True, text=True,
            check=True,
        ).stdout  # fmt: skip
        assert said.strip() == str(fingerprints(project))


def test_a_state_of_an_earlier_installer_is_understood(project: Layout) -> None:
    """It only knows requirements.txt: if that is the same, nothing is done."""
    earlier = hashlib.sha256(f"{RECIPE}\n".encode() + project.requirements.read_bytes()).hexdigest()
    assert earlier == requirements_fingerprint(project)
    state = finished(project, fingerprint=earlier, torch=True)
    assert what_to_install(project, state, {}) == ("", False)
    project.requirements.write_text("gradio==2\nllama-cpp-python==9\n")
    assert what_to_install(project, state, {})[1]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("llama", "The required version of llama.cpp"),
        ("torch", "The required version of torch"),
        ("main", "requirements have changed"),
    ],
)
def test_only_what_changed_is_done(project: Layout, part: str, words: str) -> None:
    state = finished(project, parts={**fingerprints(project), part: "old"}, torch=True)
    reason, new = what_to_install(project, state, {})
    assert words in reason
    assert new is (part == "main")
