"""The entry point: five steps in order, then none, and a failure is a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import one_click
from installer.environment import environment
from installer.environment.packages import Packages
from installer.environment.plan import what_to_install
from installer.layout import Layout
from installer.state import KINDS, read_state
from tests.installer.stage import calls, make_environment


def run_main(layout: Layout, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr(environment, "make_environment", lambda runner: make_environment(runner.layout, *flags))
    monkeypatch.setattr(one_click, "check_space", lambda *_, **more: None)
    monkeypatch.setenv("GPU_CHOICE", "N")
    monkeypatch.setenv("LAUNCH_AFTER_INSTALL", "no")
    monkeypatch.chdir(layout.root)
    return one_click.main([])


def test_the_five_steps_and_then_none(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(layout, monkeypatch) == 0
    assert re.findall(r"^\[(\d)/5\]", capsys.readouterr().out, re.MULTILINE) == list("12345")
    state = json.loads(layout.state.read_text())
    assert state["complete"] is True
    assert (state["gpu"], state["llama"]) == ("N", "the processor")

    before = len(calls(layout))
    assert run_main(layout, monkeypatch) == 0
    assert "[" not in capsys.readouterr().out
    assert len(calls(layout)) == before + 1  # the only check whether Python runs


def test_llama_cpp_is_left_out_of_the_common_step(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = Packages.install

    def install(self: Packages, *arguments: str, what: str) -> None:
        seen.append(Path(arguments[arguments.index("-r") + 1]).read_text())
        original(self, *arguments, what=what)

    monkeypatch.setattr(Packages, "install", install)
    assert run_main(layout, monkeypatch) == 0
    assert seen == ["# comment\ngradio==1.0\n"]


@pytest.mark.parametrize("flag", ["no-compile", "no-import"])
def test_a_failed_installation_is_a_sentence_and_not_complete(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert run_main(layout, monkeypatch, flag) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.strip().endswith("start again.")
    assert json.loads(layout.state.read_text())["complete"] is False
    assert what_to_install(layout, read_state(layout), {})[1]


def test_a_first_start_without_requirements_is_a_sentence(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.requirements.unlink()
    assert run_main(layout, monkeypatch) == 1
    assert "requirements.txt cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("key", KINDS)
def test_a_state_with_values_of_other_kinds_is_mended_by_one_start(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """Whatever wrote it: another version, another program, a person."""
    assert run_main(layout, monkeypatch) == 0
    good = read_state(layout)
    good |= {"held": {"wanted": {}, "why": "x"}, "wanted": {"said": "x", "mark": "x", "tries": 1}, "wanting": {}}
    for value in (None, 0, "x", [["x"]], {"said": 0}):
        inner = key in ("said", "mark", "tries")
        layout.state.write_text(
            json.dumps({**good, **({"wanted": {**good["wanted"], key: value}} if inner else {key: value})})
        )
        assert run_main(layout, monkeypatch) == 0, (value, capsys.readouterr().err)
        capsys.readouterr()
        assert run_main(layout, monkeypatch) == 0
        assert "[5/5]" not in capsys.readouterr().out, value
