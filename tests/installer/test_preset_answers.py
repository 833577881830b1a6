"""Preset answers: an invalid one is refused with the allowed ones, before anything is changed or stored."""

from __future__ import annotations

import pytest

import one_click
from installer import preset_answers, project
from installer.layout import Layout
from installer.state import read_state
from tests.installer.stage import calls, finished

ALLOWED = {preset_answers.GPU: "A (NVIDIA), B (AMD), C (Apple M series), D (Intel Arc), N (none (CPU only))"}


@pytest.mark.parametrize("arguments", [[], ["--update"], ["--repair"], ["--go-back"], ["--install-torch"]])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        (preset_answers.GPU, "X"),
        (preset_answers.GPU, "AB"),
        (preset_answers.GPU, "nvidia"),
        *((name, "yse") for name in preset_answers.FLAGS),
    ],
)
def test_a_wrong_answer_is_refused_and_nothing_is_kept_of_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    name: str, value: str,
) -> None:  # fmt: skip
    before = finished(layout)
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr(one_click, "launch", lambda *_: pytest.fail("it was started"))
    monkeypatch.setattr(project, "update_project", lambda _: pytest.fail("it was updated"))
    monkeypatch.setenv(name, value)
    assert one_click.main(arguments) == 1
    said = capsys.readouterr().err.strip()
    assert said == (
        f"{name} is {value!r}, but it must be {f'one of {ALLOWED[name]}' if name in ALLOWED else 'yes or no'}. "
        "Correct it, then start again."
    )
    assert read_state(layout) == before
    assert calls(layout) == []


@pytest.mark.parametrize(
    ("value", "answer"),
    [("", None), ("  ", None), ("Yes", True), ("1", True), (" on ", True), ("n", False), ("OFF", False)],
)
def test_yes_no_or_nothing(monkeypatch: pytest.MonkeyPatch, value: str, answer: bool | None) -> None:
    monkeypatch.setenv(preset_answers.LAUNCH, value)
    assert preset_answers.preset_flag(preset_answers.LAUNCH) is answer
    monkeypatch.delenv(preset_answers.LAUNCH)
    assert preset_answers.preset_flag(preset_answers.LAUNCH) is None
