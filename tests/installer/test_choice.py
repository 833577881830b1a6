"""The answer to which card: given, kept, detected, or asked until it is one."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from installer import gpu
from installer.choice import choose_gpu
from installer.errors import Stop
from installer.layout import Layout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_environment_answers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_CHOICE", "a")
    monkeypatch.setenv("USE_CUDA118", "Yes")
    assert choose_gpu({"gpu": "N"}) == {"gpu": "A", "cuda118": True}
    monkeypatch.setenv("USE_CUDA118", "no")
    assert choose_gpu({"gpu": "N"}) == {"gpu": "A", "cuda118": False}


@pytest.mark.parametrize("choice", ["X", "AB", "NVIDIA"])
def test_a_wrong_choice_is_refused_by_name(layout: Layout, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv("GPU_CHOICE", choice)
    with pytest.raises(Stop, match=f"GPU_CHOICE is '{choice}'"):
        choose_gpu({})


def test_the_last_answer_is_kept(layout: Layout) -> None:
    assert choose_gpu({"gpu": "A", "cuda118": True}) == {"gpu": "A", "cuda118": True}


def test_without_a_terminal_it_detects_and_says_why(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "nvidia_card", lambda: "NVIDIA H200")
    assert choose_gpu({}) == {"gpu": "A", "cuda118": False}
    assert "A, NVIDIA, because NVIDIA's driver lists NVIDIA H200" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("\n\n", {"gpu": "A", "cuda118": False}),
        ("AB\nx\na\nperhaps\ny\n", {"gpu": "A", "cuda118": True}),
        ("n\n", {"gpu": "N", "cuda118": False}),
        ("", {"gpu": "A", "cuda118": False}),
    ],
)
def test_a_terminal_is_asked_until_it_answers(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, typed: str, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(gpu, "nvidia_card", lambda: "NVIDIA H200")
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert choose_gpu({}) == answer
