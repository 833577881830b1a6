"""Nothing that a person types or chooses is undone by an answer that comes late."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from modules.ui.parts.page_blocks import PageBlocks
from tests.ui.conftest import Web

LATE = 2.0  # seconds
#: Tabs where one only chooses.
CHOSEN = {"session"}

#: The text and number fields that can be seen and written in, but for the filter of knobs: of each, its place and
#: another value that it allows.
_FIELDS = """
(tab) => {
  document.querySelectorAll('[data-late]').forEach((field) => field.removeAttribute('data-late'));
  return [...document.querySelectorAll(`#tab-${tab} :is(textarea, input)`)]
  .filter((field) => ['textarea', 'text', 'number'].includes(field.type) && field.offsetParent
    && !field.disabled && !field.readOnly && !field.closest('#knob-filter, [role=listbox], .wrap-inner'))
  .slice(0, 12)
  .map((field, at) => {
    field.dataset.late = at;
    const [value, step, max] = [field.value, field.step, field.max].map(Number);
    const next = value + (step || 1);
    return [at, field.type === 'number' ? String(field.max && next > max ? value - (step || 1) : next) : `typed ${at}`];
  });
}
"""


@pytest.fixture
def late(web: Web) -> Iterator[Web]:
    """Every answer of the page is held back, once `late.delay` is set."""
    real = PageBlocks.postprocess_data
    web.delay = 0.0  # type: ignore[attr-defined]

    async def slowly(self: PageBlocks, *given: Any) -> list[Any]:
        made = await real(self, *given)
        await asyncio.sleep(web.delay)  # type: ignore[attr-defined]
        return made

    PageBlocks.postprocess_data = slowly  # type: ignore[method-assign]
    yield web
    PageBlocks.postprocess_data = real  # type: ignore[method-assign]


def answered(web: Web) -> None:
    """Until no answer is on its way but the timer's."""
    web.delay = 0.0  # type: ignore[attr-defined]
    web.page.wait_for_timeout(int(LATE * 1000) + 600)
    web.page.wait_for_function("Answers.running.size < 2")


def write(web: Web, tab: str) -> dict[int, str]:
    """Write into every field of the tab; returns what was written, by the field's place."""
    typed = {}
    for at, text in web.page.evaluate(_FIELDS, tab):
        field = web.page.locator(f"[data-late='{at}']")
        with contextlib.suppress(PlaywrightTimeout):  # what was written above it may hide it
            field.fill(text, timeout=2000)
            typed[at] = field.input_value()
    return typed


def left(web: Web, typed: dict[int, str]) -> dict[int, str]:
    return {at: web.page.locator(f"[data-late='{at}']").input_value() for at in typed}


@pytest.mark.parametrize("tab", ["chat", "default", "notebook", "parameters", "model", "training", "session"])
def test_what_is_typed_while_an_answer_is_on_its_way_stays(late: Web, tab: str) -> None:
    page = late.window
    late.delay = LATE  # type: ignore[attr-defined]
    late.visit()  # its first answers fill every field of the page; some fields are closed until then
    page.locator(f"#tab-{tab}-button").click()
    expect(page.locator(f"#tab-{tab}")).to_be_visible()
    typed = write(late, tab)
    answered(late)
    assert left(late, typed) == typed
    late.ready()
    late.tab("session" if tab != "session" else "chat")
    late.delay = LATE  # type: ignore[attr-defined]
    late.tab(tab)  # it is asked for what it shows
    typed = write(late, tab)
    assert typed or tab in CHOSEN, "nothing to write in"
    answered(late)
    assert left(late, typed) == typed


@pytest.mark.parametrize("named", [0, 1500])
def test_a_loader_chosen_right_after_a_model_is_that_models(late: Web, named: int) -> None:
    """`named`: after how many milliseconds the page knows the number of an event that it began."""
    page = late.window
    page.add_init_script(
        "const real = fetch; window.fetch = async (what, how) => { const answer = await real(what, how);"
        "if (String(what?.url ?? what).includes('/queue/join'))"
        " await new Promise(done => setTimeout(done, window.named)); return answer; }"
    )
    late.open()
    late.tab("model")
    page.evaluate(f"window.named = {named}")
    loader = page.locator("#loader")
    expect(loader).to_be_visible()
    other = loader.locator("input[type=radio]:not(:checked)").last
    name = other.get_attribute("value") or ""
    late.delay = LATE  # type: ignore[attr-defined]
    page.locator("#catalog-list [data-pick]").first.click()
    page.wait_for_timeout(100)
    loader.locator("label", has_text=name).click()
    answered(late)
    page.wait_for_timeout(int(LATE * 1000) + 2 * named)
    expect(loader.locator(f"input[type=radio][value='{name}']")).to_be_checked()


def chats(web: Web, *titles: str) -> None:
    for title in titles:
        web.kept([f"{title} {number}." for number in range(30)], title)


def pick(web: Web, title: str) -> None:
    web.page.locator("#chat-list [data-pick]", has_text=title).first.click()


def test_of_two_quick_choices_the_second_counts(late: Web) -> None:
    chats(late, "Apple", "Pear")
    page = late.page
    late.new_chat()
    late.delay = LATE  # type: ignore[attr-defined]
    pick(late, "Apple")
    page.wait_for_timeout(100)
    pick(late, "Pear")
    page.locator("#message textarea").fill("For the pear")
    expect(page.locator("#chat-title h1")).to_have_text("Apple")
    expect(page.locator("#chat-title h1")).to_have_text("Pear")
    answered(late)
    expect(page.locator("#message textarea")).to_have_value("For the pear")
    assert {each["text"]: each["chat"] for each in page.evaluate("Page.drafts()")} == {
        "For the pear": next(each.id for each in late.app.chats.list() if each.title == "Pear")
    }
    late.delay = LATE  # type: ignore[attr-defined]
    page.locator("#history .user-row .prose", has_text="Pear 24.").click()
    page.wait_for_timeout(100)
    page.locator("#history .user-row .prose", has_text="Pear 26.").click()
    expect(page.locator("#message-what")).to_contain_text("27 of 30")
    answered(late)
    late.tab("parameters")
    late.delay = LATE  # type: ignore[attr-defined]
    for preset in ("Big O", "min_p"):
        page.locator(f"#tab-parameters [data-pick='{preset}']").click()
        page.wait_for_timeout(100)
    expect(page.locator("#tab-parameters [data-pick='min_p']")).to_have_attribute("aria-pressed", "true")


def test_what_one_does_in_a_chat_that_was_just_opened_stays(late: Web) -> None:
    """Its first answer is the last that hides the buttons of a message, or goes to the end."""
    chats(late, "Plum", "Cherry")
    page, reading = late.page, late.page.locator("#reading")
    late.new_chat()
    pick(late, "Plum")
    page.locator("#tail .user-row .prose", has_text="Plum 28.").click()
    expect(page.locator("#message-bar")).to_be_visible()
    late.delay = LATE  # type: ignore[attr-defined]
    pick(late, "Cherry")
    expect(page.locator("#tail")).to_contain_text("Cherry 29.")
    page.wait_for_timeout(300)
    assert not page.locator("#message-bar").is_visible()
    reading.hover()
    page.mouse.wheel(0, -600)
    page.wait_for_function("reading.scrollHeight - reading.scrollTop - reading.clientHeight > 400")
    answered(late)
    assert reading.evaluate("(part) => part.scrollHeight - part.scrollTop - part.clientHeight") > 400


def test_a_chat_that_is_opened_once_more_keeps_what_was_picked_in_it(late: Web) -> None:
    chats(late, "Plum")
    page = late.page
    late.new_chat()
    pick(late, "Plum")
    expect(page.locator("#tail")).to_contain_text("Plum 29.")
    late.delay = LATE  # type: ignore[attr-defined]
    pick(late, "Plum")
    page.locator("#tail .user-row .prose", has_text="Plum 28.").click()
    answered(late)
    answered(late)
    assert page.locator("#message-bar").is_visible()


def knob(web: Web, name: str) -> Any:
    return web.page.locator(f"#knob-{name} input[type=number]")


def click_quickly(web: Web, *buttons: str) -> None:
    for each in buttons:
        web.page.locator(each).click()
        web.page.wait_for_timeout(100)


def test_of_several_parameters_that_are_reset_at_once_each_is(late: Web) -> None:
    page = late.page
    late.tab("parameters")
    page.locator("#presets [data-pick='simple-1']").click()
    expect(page.locator("#differing button")).to_have_count(5)
    answered(late)
    late.delay = LATE  # type: ignore[attr-defined]
    click_quickly(late, *(f"#differing [data-pick='{name}']" for name in ("temperature", "top_p", "top_k")))
    knob(late, "min_p").fill("0.05")
    answered(late)
    expect(page.locator("#differing button")).to_have_count(3)
    expect(page.locator("#differing")).to_contain_text("min_p 0.05")
    for name, value in (("temperature", "1"), ("top_p", "1"), ("top_k", "0"), ("min_p", "0.05")):
        expect(knob(late, name)).to_have_value(value)
    late.ready()
    page.reload()  # what is kept in this browser is the same
    late.ready()
    late.tab("parameters")
    expect(knob(late, "top_p")).to_have_value("1")
    expect(knob(late, "min_p")).to_have_value("0.05")


def test_of_three_presets_the_last_counts_and_undoes_nothing_else(late: Web) -> None:
    page = late.page
    late.tab("parameters")
    page.locator("#knob-max_new_tokens input[type=number]").fill("77")
    expect(page.locator("#differing")).to_contain_text("max_new_tokens 77")
    answered(late)
    late.delay = LATE  # type: ignore[attr-defined]
    chips = [f"#presets [data-pick='{name}']" for name in ("Big O", "min_p", "simple-1")]
    click_quickly(late, "#differing [data-pick='max_new_tokens']", *chips)
    answered(late)
    page.wait_for_timeout(int(LATE * 1000))
    expect(page.locator("#presets [aria-pressed=true]")).to_have_text("simple-1")
    expect(knob(late, "top_k")).to_have_value("20")
    expect(knob(late, "min_p")).to_have_value("0")
    expect(page.locator("#differing")).not_to_contain_text("max_new_tokens 77")
    assert knob(late, "max_new_tokens").input_value() != "77"


def test_a_list_that_is_redrawn_under_the_pointer_loses_no_click(late: Web) -> None:
    page = late.page
    late.tab("parameters")
    chip = page.locator("#presets [data-pick='simple-1']")
    chip.hover()
    page.mouse.down()
    page.evaluate("(list => { list.innerHTML = list.innerHTML; })(document.querySelector('#presets .prose'))")
    page.mouse.up()
    expect(chip).to_have_attribute("aria-pressed", "true")


def test_of_several_settings_of_a_chat_that_are_reset_at_once_each_is(late: Web) -> None:
    page = late.page
    late.new_chat()
    chats(late, "Quince")
    quince = next(each.id for each in late.app.chats.list() if each.title == "Quince")
    kept = late.app.starting_params().changed(temperature=0.4, top_p=0.8, min_p=0.2, seed=5)
    late.app.edits.keep_params(quince, kept)
    page.reload()
    late.ready()
    pick(late, "Quince")
    late.opened()
    page.locator("#controls-toggle").click()
    expect(page.locator("#own-what [data-pick='top_p']")).to_be_visible()
    late.delay = LATE  # type: ignore[attr-defined]
    click_quickly(late, *(f"#own-what [data-pick='{name}']" for name in ("temperature", "top_p", "min_p")))
    answered(late)
    expect(page.locator("#own-what")).to_contain_text("seed 5")
    for name in ("temperature", "top_p", "min_p"):
        expect(page.locator(f"#own-what [data-pick='{name}']")).to_have_count(0)


def test_a_message_that_is_typed_and_sent_at_once_leaves_the_box(late: Web) -> None:
    late.new_chat()
    late.delay = LATE  # type: ignore[attr-defined]
    box = late.page.locator("#message textarea")
    box.click()
    late.page.keyboard.type("Hi")
    late.page.keyboard.press("Enter")
    expect(box).to_have_value("")
    answered(late)
    late.done()
    expect(box).to_have_value("")


def test_a_late_forecast_is_not_shown_for_the_model_chosen_since(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    other = web.app.paths.models / "other.gguf"
    other.symlink_to((web.app.paths.models / web.app.models.state.name).resolve())
    real = web.app.badges.forecast

    def slowly(name: str, *rest: Any) -> Any:
        if name != other.name:
            time.sleep(LATE)
        return real(name, *rest)

    monkeypatch.setattr(web.app.badges, "forecast", slowly)
    page, forecast = web.page, web.page.locator("#forecast")
    try:
        web.tab("model")
        page.locator("#catalog-refresh").click()
        page.locator(f"#catalog-list [data-pick='{other.name}']").click()
        expect(page.locator("#model-title")).to_contain_text("other")
        expect(page.locator("#load-notes .notes")).to_have_count(0)
        page.wait_for_function("Answers.running.size < 2")
        page.wait_for_timeout(int(LATE * 1000) + 600)
        expect(forecast).to_contain_text("Memory")
        expect(forecast).not_to_contain_text("It is loaded")
    finally:
        other.unlink()
