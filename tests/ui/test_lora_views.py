"""The pictures of a training, without a browser: long courses stay small, and what files hold stays text."""

from __future__ import annotations

from pathlib import Path

from modules.training.look import Bin, Look, Piece, Sample
from modules.training.lora_events import Event
from modules.training.lora_settings import LoraSettings
from modules.training.workshop import State, after
from modules.ui.lora_views import curves_svg, duration, look_html, state_html

READY = Event("ready", updates=10_000, accumulation=2)


def course(count: int) -> State:
    state = after(State("running", LoraSettings(lora_name="<b>mine")), READY)
    for at in range(1, count):
        state = after(
            state, Event("step", update=at, updates=10_000, loss=10 / at, learning_rate=1e-4, seconds_left=65)
        )
    return after(state, Event("evaluation", update=count // 2, loss=0.5))


def test_a_long_course_stays_a_small_picture() -> None:
    short, long = curves_svg(course(20)), curves_svg(course(10_000))
    assert "evaluation" in short
    assert len(long) < 20_000
    assert "step 19,998" in long
    assert curves_svg(State("running")) == ""


def test_where_it_stands_is_told_in_steps() -> None:
    told = state_html(course(100), Path("loras"))
    assert "step 198 of 20,000" in told
    assert "65 s left" in told
    failed = after(course(3), Event("failed", "<script>no"))
    assert "&lt;script&gt;no" in state_html(failed, Path("loras"))
    ended = after(course(3), Event("done", "stopped", update=2, updates=9, seconds=3700, tokens_per_second=5))
    assert "&lt;b&gt;mine</b> was stopped, and is saved" in state_html(ended, Path("loras"))
    assert [duration(each) for each in (5, 700, 9000)] == ["5 s", "12 min", "2 h 30 min"]


def test_what_a_file_holds_stays_text() -> None:
    sample = Sample(1, 2, (Piece(5, "<script>", False), Piece(6, "<b>", True)), 7)
    look = Look(
        "rows of text", 1, 1, 0, 2, 1, 1, 1, 2, (Bin(2, 2, 1),), (sample,), 1, 1, 1, 1, 2, "memory", None, ("<i>",)
    )
    told = look_html(look)
    assert "<script>" not in told
    assert "<mark><span title='6'>&lt;b&gt;</span></mark>" in told
    assert "&lt;i&gt;" in told
    assert "it does not fit" in told
    assert Look.parse(look.line()) == look
