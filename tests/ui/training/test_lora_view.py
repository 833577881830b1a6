"""A training's charts, without a browser: long trainings stay small, and file contents stay text."""

from __future__ import annotations

import re
from pathlib import Path

from modules.training.data.preview import DatasetPreview, LengthBin, PreviewSample, PreviewToken
from modules.training.lora.events import TrainingEvent
from modules.training.lora.settings import LoraSettings
from modules.training.manager import TrainingState, apply_event
from modules.ui.training.lora_view import curves_svg, duration, preview_html, state_html

READY = TrainingEvent("ready", updates=10_000, accumulation=2)


def course(count: int) -> TrainingState:
    state = apply_event(TrainingState("running", LoraSettings(lora_name="<b>mine")), READY)
    for at in range(1, count):
        state = apply_event(
            state, TrainingEvent("step", update=at, updates=10_000, loss=10 / at, learning_rate=1e-4, seconds_left=65)
        )
    return apply_event(state, TrainingEvent("evaluation", update=count // 2, loss=0.5))


def test_a_long_course_stays_a_small_picture() -> None:
    short, long = curves_svg(course(20)), curves_svg(course(10_000))
    assert "evaluation" in short
    assert len(long) < 20_000
    assert "step 19,998" in long
    assert curves_svg(TrainingState("running")) == ""


def test_the_curve_ends_with_its_value_in_words_and_is_smooth() -> None:
    assert "<p>Loss over the steps, 0.1010 at step 198; 0.5000 on the evaluation dataset</p>" in curves_svg(course(100))
    lines = re.findall(r"class='(raw|loss)' points='([^']*)'", curves_svg(course(100)))
    assert [kind for kind, _ in lines] == ["raw", "loss"]
    heights = [[float(each.split(",")[1]) for each in points.split()] for _, points in lines]
    assert [len(each) for each in heights] == [99, 99]
    assert "class='raw'" not in curves_svg(course(8))


def test_where_it_stands_is_told_in_steps() -> None:
    told = state_html(course(100), Path("loras"))
    assert "step 198 of 20,000" in told
    assert "65 s left" in told
    failed = apply_event(course(3), TrainingEvent("failed", "<script>no"))
    assert "&lt;script&gt;no" in state_html(failed, Path("loras"))
    ended = apply_event(
        course(3), TrainingEvent("done", "stopped", update=2, updates=9, seconds=3700, tokens_per_second=5)
    )
    assert "&lt;b&gt;mine</b> was stopped and saved." in state_html(ended, Path("loras"))
    assert [duration(each) for each in (5, 700, 9000)] == ["5 s", "12 min", "2 h 30 min"]


def test_what_a_file_holds_stays_text() -> None:
    sample = PreviewSample(1, 2, (PreviewToken(5, "<script>", False), PreviewToken(6, "<b>", True)), 7)
    look = DatasetPreview(
        "rows of text",
        1,
        1,
        0,
        2,
        1,
        5,
        10,
        1,
        2,
        (LengthBin(2, 2, 1),),
        (sample,),
        1,
        1,
        1,
        1,
        2,
        "memory",
        None,
        ("<i>",),
    )
    told = preview_html(look)
    assert "<script>" not in told
    assert "<mark><span title='6'>&lt;b&gt;</span></mark>" in told
    assert "&lt;i&gt;" in told
    assert "it does not fit" in told
    assert "<b>10</b><small>steps in total</small>" in told  # as the run counts them
    assert DatasetPreview.parse(look.line()) == look
