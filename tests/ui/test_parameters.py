"""The Parameters tab: presets, marks, greyed-out knobs, and that values are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from modules.app import App
from modules.ui import build_page
from tests.ui.conftest import Web


def value(web: Web, knob: str) -> Locator:
    return web.page.locator(f"#knob-{knob} input[type=number]")


@pytest.fixture
def page(web: Web) -> Web:
    web.tab("parameters")
    expect(value(web, "top_k")).to_have_value("1")  # Debug-deterministic
    return web


def choose(web: Web, preset: str) -> None:
    web.page.locator(f"#presets [data-pick='{preset}']").click()


def test_a_preset_moves_the_sliders(page: Web) -> None:
    choose(page, "simple-1")
    expect(value(page, "temperature")).to_have_value("0.7")
    expect(value(page, "top_p")).to_have_value("0.9")
    expect(value(page, "top_k")).to_have_value("20")
    expect(page.page.locator("#differing")).to_contain_text("repetition_penalty 1.15")
    page.page.locator("#neutralize").click()
    expect(value(page, "top_k")).to_have_value("0")
    expect(page.page.locator("#differing button")).to_have_count(1)  # max_new_tokens is no sampler


def test_a_preset_tells_what_it_changes(page: Web) -> None:
    chip = page.page.locator("#presets [data-pick='simple-1']")
    assert "top_p 0.9 · " in (chip.get_attribute("title") or "")
    expect(page.page.locator("#presets [aria-pressed=true]")).to_have_text("Debug-deterministic")


def test_one_click_makes_a_knob_neutral(page: Web) -> None:
    choose(page, "simple-1")
    page.page.locator("#differing button", has_text="temperature").click()
    expect(value(page, "temperature")).to_have_value("1")
    expect(value(page, "top_p")).to_have_value("0.9")
    expect(page.page.locator("#differing button")).to_have_count(4)


def test_values_stay_after_a_reload(page: Web) -> None:
    value(page, "min_p").fill("0.05")
    value(page, "min_p").blur()
    expect(page.page.locator("#differing")).to_contain_text("min_p 0.05")
    page.page.reload()
    page.ready()
    page.tab("parameters")
    expect(value(page, "min_p")).to_have_value("0.05")


@pytest.mark.parametrize(("knob", "text"), [("seed", "7"), ("custom_stopping_strings", '"END"')])
def test_typed_values_are_kept_too(page: Web, knob: str, text: str) -> None:
    box = page.page.locator(f"#knob-{knob} :is(input, textarea)").first
    box.fill(text)
    box.blur()
    expect(page.page.locator("#differing")).to_contain_text(knob)


def test_a_value_beyond_the_slider_widens_it(page: Web) -> None:
    page.app.presets.save("beyond", page.app.starting_params().changed(top_k=500, temperature=9))
    page.page.locator("#preset-refresh").click()
    choose(page, "beyond")
    expect(value(page, "top_k")).to_have_value("500")
    page.tab("chat")
    page.ask("Tell me the capital of France.")  # the controls hand the value on
    page.app.presets.delete("beyond")


def test_a_preset_is_saved_and_deleted(page: Web) -> None:
    choose(page, "simple-1")
    expect(value(page, "top_k")).to_have_value("20")
    page.page.locator("#preset-save").click()
    page.page.locator("#preset-name :is(input, textarea)").fill("mine")
    page.page.locator("#preset-save-now").click()
    expect(page.page.locator("#presets [aria-pressed=true]")).to_have_text("mine")
    assert page.app.presets.load("mine")[0]["top_k"] == 20
    page.page.locator("#preset-delete").click()
    expect(page.page.locator("#preset-question")).to_contain_text("Delete the preset mine?")
    page.page.locator("#preset-delete-now").click()
    expect(page.page.locator("#presets [aria-pressed=true]")).to_have_count(0)
    assert "mine" not in page.app.presets.names()


def test_a_bad_name_is_refused_with_a_sentence(page: Web) -> None:
    page.page.locator("#preset-save").click()
    page.page.locator("#preset-name :is(input, textarea)").fill("../mine")
    page.page.locator("#preset-save-now").click()
    expect(page.page.locator(".toast-body")).to_contain_text("cannot be used as a name")


def test_a_greyed_knob_says_why(page: Web) -> None:
    model = page.app.models.current()
    name, reason = next(iter(model.unsupported.items()))
    page.page.locator("#knob-filter :is(input, textarea)").fill(name)
    knob = page.page.locator(f"#knob-{name}")
    expect(knob).to_contain_text(reason)
    expect(knob.locator("input, textarea").first).to_be_disabled()


def test_the_chat_history_is_one_click_away(page: Web) -> None:
    page.page.locator("#to-history").click()
    expect(page.page.locator("#tab-chat")).to_be_visible()
    expect(page.page.locator("#chat-import")).to_be_visible()


def test_the_filter_finds_folded_knobs(page: Web) -> None:
    expect(page.page.locator("#knob-tfs")).to_be_hidden()
    page.page.locator("#knob-filter :is(input, textarea)").fill("tail-free")
    expect(page.page.locator("#knob-tfs")).to_be_visible()
    expect(page.page.locator("#knob-temperature")).to_be_hidden()
    page.page.locator("#knob-filter :is(input, textarea)").fill("no such knob")
    expect(page.page.locator("#cards")).to_have_attribute("data-nothing", re.compile("No parameter matches"))
    page.page.locator("#knob-filter :is(input, textarea)").fill("")
    expect(page.page.locator("#knob-temperature")).to_be_visible()


@pytest.mark.parametrize("length", [2048, 32768])
def test_the_originals_settings_leave_context_and_template_to_the_model(tmp_path: Path, length: int) -> None:
    """It stores those of whatever model was loaded; the page starts with 0 and "", which mean the model's own."""
    template = "{% for m in messages %}### Instruction: {{ m['content'] }}{% endfor %}"
    values = {"truncation_length": length, "instruction_template_str": template, "mode": "chat"}
    (tmp_path / "settings.yaml").write_text(json.dumps(values), encoding="utf-8")
    app = App.build(tmp_path, [])
    try:
        fields = {getattr(each, "elem_id", None): each for each in build_page(app).blocks.values()}
    finally:
        app.close()
    assert (fields["knob-truncation_length"].value, fields["template-text"].value) == (0, "")
    assert fields["mode"].value == "chat"
