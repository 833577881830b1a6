"""What one came for is in sight: Start, the text, the help in one line, nothing over what one reads."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from modules.ui import theme
from tests.ui.conftest import PATIENCE, Web


def test_start_is_in_sight_and_the_text_needs_no_second_scrollbar(web: Web) -> None:
    page = web.page
    page.set_viewport_size({"width": 1400, "height": 900})
    web.tab("training")
    # also beside the curves of a run, whether or not another test has trained
    page.evaluate("document.querySelector('#lora-curves .prose').innerHTML = '<p style=\"height: 600px\">curves</p>'")
    page.wait_for_function("document.querySelector('#lora-start').getBoundingClientRect().bottom <= innerHeight")
    on_top = "(box) => document.elementFromPoint(box.left + 12, box.top + 12)?.closest('button')?.id"
    assert page.evaluate(f"({on_top})(document.querySelector('#lora-start').getBoundingClientRect())") == "lora-start"
    for name in ("default", "notebook"):
        web.tab(name)
        page.wait_for_function(f"(({{scrollHeight: all, clientHeight: seen}}) => all <= seen)"
                               f"(document.querySelector('#tab-{name}'))")  # fmt: skip
    web.tab("parameters")
    lines = page.evaluate(
        "[...document.querySelectorAll('#cards .knob:not(:has(:disabled)) .info-text')]"
        ".filter(each => each.offsetParent && each.clientHeight > 24).map(each => each.textContent)"
    )
    assert lines == [], "help of more than one line"
    page.locator("#knob-top_p .info-text").hover()
    assert "add up to" in (page.locator("#knob-top_p .info-text").get_attribute("title") or "")


def test_in_a_low_window_nothing_lies_over_the_text(web: Web) -> None:
    page = web.page
    page.set_viewport_size({"width": 740, "height": 360})
    page.wait_for_function(
        "(() => { const text = document.querySelector('#reading').getBoundingClientRect();"
        "return text.height > 200 && [...document.querySelectorAll('#talk-head button')]"
        ".filter(each => each.offsetParent)"
        ".every(each => each.getBoundingClientRect().top >= text.bottom - 1); })()"
    )


def test_a_phone_shows_every_tab_and_the_whole_name_of_the_model(narrow: Web) -> None:
    page = narrow.page
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.locator("#chip").evaluate("chip => chip.scrollHeight <= chip.clientHeight")
    for name in ("session", "chat", "model"):
        page.evaluate(f"document.getElementById('tab-{name}-button').click()")  # from anywhere in the page
        page.wait_for_function(
            "(name) => { const box = document.getElementById(`tab-${name}-button`).getBoundingClientRect();"
            "return box.left >= 0 && box.right <= innerWidth; }",
            arg=name,
        )
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_phone_that_is_turned_still_shows_the_chosen_tab(web: Web) -> None:
    page = web.page
    page.set_viewport_size({"width": 740, "height": 360})
    web.tab("session")
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function(
        "(() => { const box = document.getElementById('tab-session-button').getBoundingClientRect();"
        "return box.left >= 0 && box.right <= innerWidth; })()"
    )
    web.tab("chat")
    model = page.locator("#tab-model-button span, #tab-model-button").last
    assert (model.bounding_box() or {"x": 999})["x"] < 340, "nothing says that there are more tabs"


#: A text of the chip and one of the queue, as the header may have them.
_HEADER = """
([text, queue]) => {
  if (text) document.querySelector('#chip').textContent = text;
  document.querySelector('#queue .prose').textContent = queue;
}
"""
#: The parts of the header, and of each line of the chip that is painted how far it is from where the chip is cut.
_HEADER_SEEN = """
() => {
  const chip = document.querySelector('#chip');
  const range = document.createRange();
  range.selectNodeContents(chip);
  const { top, bottom } = chip.getBoundingClientRect();
  const border = parseFloat(getComputedStyle(chip).borderTopWidth);
  const lines = [...range.getClientRects()].map((line) => [line.top - top - border, bottom - border - line.bottom]);
  const boxes = [...document.querySelectorAll('#bar > *, #tabs > .tab-wrapper > .tab-container')]
    .filter((each) => each.offsetWidth && each.offsetHeight)
    .map((each) => [each, each.getBoundingClientRect()])
    .map(([each, box]) => [box.left, box.top, box.right, box.bottom, each.id || each.className]);
  return { lines: lines.filter(([, below]) => below > -15), boxes };
}
"""
LONG = "Mistral-Small-3.2-24B-Instruct-2506-abliterated-heretic-with-a-long-name.Q4_K_M · llama.cpp · 128k · 15.2 GB"


@pytest.mark.parametrize(("width", "height"), [(740, 360), (700, 450), (360, 740), (800, 700), (1400, 900)])
def test_the_name_of_the_model_is_whole_or_ends_in_an_ellipsis(web: Web, width: int, height: int) -> None:
    page = web.page
    page.set_viewport_size({"width": width, "height": height})
    for text in ("", LONG, "no model: choose one"):
        for queue in ("", "2 running, 1 waiting"):
            page.evaluate(_HEADER, [text, queue])
            found = page.evaluate(_HEADER_SEEN)
            assert found["lines"]
            # a line's box is a little higher than its letters
            assert all(min(line) > -1.5 for line in found["lines"]), f"{text!r} is cut across"
            least = 24 if width > 860 and height > 500 else 40
            for at, (left, top, right, bottom, name) in enumerate(found["boxes"]):
                assert left >= 0, name
                assert right <= width, name
                assert name not in ("chip", "theme-switch") or min(right - left, bottom - top) >= least, name
                for other in found["boxes"][at + 1 :]:
                    apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
                    assert apart, f"{name} and {other[4]} overlap"


@pytest.mark.parametrize("tab", ["chat", "default", "notebook", "parameters", "model", "training", "session"])
def test_a_finger_hits_every_button(narrow: Web, tab: str) -> None:
    page = narrow.page
    page.evaluate(f"document.getElementById('tab-{tab}-button').click()")
    expect(page.locator(f"#tab-{tab}")).to_be_visible()
    if tab == "chat":
        page.locator("#chats-toggle").click()
        page.locator("#chat-files > button").click()
        expect(page.locator("#chat-import")).to_be_visible()
    small = page.evaluate(
        "(tab) => [...document.querySelectorAll(`#tab-${tab} :is(button, input[type=number])`)]"
        ".filter((each) => each.offsetParent && each.offsetHeight && each.offsetHeight < 40)"
        ".map((each) => `${each.id || each.className} ${each.textContent.trim()} ${each.offsetHeight}`)",
        tab,
    )
    assert not small


@pytest.mark.parametrize("width", [360, 740, 700, 900, 1400])
def test_the_chart_of_the_samplers_and_its_table_fit_and_can_be_read(web: Web, width: int) -> None:
    """However many samplers act: where they would be too small side by side, they stand below each other."""
    page = web.page
    page.set_viewport_size({"width": 1400, "height": 900})
    web.tab("parameters")
    page.locator("#presets [data-pick='Big O']").click()  # many samplers
    expect(page.locator("#presets [data-pick='Big O']")).to_have_attribute("aria-pressed", "true")
    web.tab("default")
    page.locator("#default .editor-column textarea").first.fill("The capital of France is")
    page.set_viewport_size({"width": width, "height": 360 if width == 740 else 740})
    page.locator("#default-views [role=tab]", has_text="Samplers").first.evaluate("tab => tab.click()")
    expect(page.locator("#default-flow .steps")).to_be_visible()
    seen = page.evaluate(
        "[...document.querySelectorAll('#default-flow, #default-flow *')].filter(each => each.getClientRects().length"
        "&& !each.closest('thead')).filter(each => each.getBoundingClientRect().right > innerWidth"
        "|| (each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX === 'auto'))"
        ".map(each => each.outerHTML.slice(0, 80))"
    )
    assert seen == []
    charts = page.locator("#default-flow .sampler-flow > svg")
    shown = [charts.nth(at) for at in range(charts.count()) if charts.nth(at).is_visible()]
    assert len(shown) == 1
    assert shown[0].evaluate("chart => chart.getBoundingClientRect().width / chart.viewBox.baseVal.width") >= 0.7


def test_a_late_forecast_moves_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    real = web.app.badges.forecast

    def slowly(*given: Any) -> Any:
        asked.wait(PATIENCE / 1000)
        return real(*given)

    monkeypatch.setattr(web.app.badges, "forecast", slowly)
    page = web.page
    page.set_viewport_size({"width": 1400, "height": 900})
    place = "(button) => button.getBoundingClientRect().top"
    try:
        web.tab("model")
        before = page.locator("#reload-model").evaluate(place)
    finally:
        asked.set()
    expect(page.locator("#forecast")).to_contain_text("free in main memory")
    assert abs(page.locator("#reload-model").evaluate(place) - before) <= 24


def test_a_name_keeps_both_ends_and_its_quantization(web: Web) -> None:
    page = web.page
    web.tab("model")
    entry = page.locator("#catalog-list [data-pick]").first
    expect(entry.locator(".ends")).to_have_text("SmolLM2-135M-Instruct")
    expect(entry.locator("> em")).to_have_text("Q4_1")
    expect(entry.locator("small em")).to_have_text("loaded")
    entry.locator("b").first.evaluate("name => { name.textContent = 'a-very-long-name'.repeat(9); }")
    box = entry.bounding_box()
    for part in (entry.locator("b").last, entry.locator("> em")):
        inner = part.bounding_box()
        assert inner["x"] + inner["width"] <= box["x"] + box["width"]  # type: ignore[index]


def test_controls_of_a_text_are_one_line(web: Web) -> None:
    page = web.page
    rows = (
        "(line) => new Set([...line.children].filter(each => each.offsetParent && each.offsetHeight)"
        ".map(each => each.getBoundingClientRect()).map(box => Math.round((box.top + box.bottom) / 16))).size"
    )
    for name in ("default", "notebook"):
        page.set_viewport_size({"width": 1400, "height": 800})
        web.tab(name)
        for width in (1400, 360):
            page.set_viewport_size({"width": width, "height": 800})
            line = page.locator(f"#{name} .editor-column .editor-line")
            page.wait_for_function(f"({rows})(document.querySelector('#{name} .editor-column .editor-line')) === 1")
            assert page.locator(f"#{name}-files").is_hidden()
            page.locator(f"#{name}-more").click()
            assert page.locator(f"#{name}-files").bounding_box()["width"] > 200  # type: ignore[index]
            assert line.locator(f"#{name}-generate").is_visible()
            page.locator(f"#{name}-more").click()
    page.set_viewport_size({"width": 1400, "height": 800})
    web.tab("training")
    page.set_viewport_size({"width": 740, "height": 360})
    page.wait_for_function("document.querySelector('#theme-switch').offsetWidth > 20")
    page.wait_for_function("document.querySelector('#lora-run')?.offsetHeight < 48")


def test_a_button_beside_a_field_is_level_with_it(web: Web) -> None:
    page = web.page
    page.set_viewport_size({"width": 1400, "height": 900})
    web.tab("training")
    page.get_by_role("tab", name="Perplexity", exact=True).click()
    expect(page.locator("#measure-add")).to_be_visible()
    field, button = (page.locator(each).bounding_box() for each in ("#measure-text .wrap-inner", "#measure-add"))
    assert field
    assert button
    assert abs(field["y"] + field["height"] / 2 - button["y"] - button["height"] / 2) < 4


def test_no_rule_styles_just_any_element_beside_or_in_one_that_it_asks() -> None:
    """With `A:has(...) > :not(.b)`, the browser looks at every element of the page whenever anything in it changes:
    each update of a reply took 5 ms more, 10 ms in a long chat.
    """
    found = []
    for sheet in Path(theme.__file__).parent.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [each.strip() for each in re.findall(r"([^{};]+)\{", text) if styles_any(each)]
    assert found == []


def styles_any(selector: str) -> bool:
    """Whether a part of the selector asks with :has(), and what follows that names no element of its own."""
    before = ""
    while before != selector:  # from the inside
        before = selector
        selector = re.sub(r":has\([^()]*\)|:not\([^()]*\0[^()]*\)", "\0", selector)
        selector = re.sub(r":not\([^()\0]*\)", "", selector)
        selector = re.sub(r":(?:is|where)\(([^()]*)\)", lambda found: found[1].replace(",", " "), selector)
    return any(re.search(r"\0[^ >+~]*[ >+~]+(?:\*|div|span|p|button)?$", each.strip()) for each in selector.split(","))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("#a:has(> #b .c > *) > :not(#b)", True),
        ("#a:not(:has(.b)) > *", True),
        ("#a .b:has(:disabled) .c", False),
        ("#a :has(.b)", False),
        ("#a:not(:has(:is(#b, #c) .d)) :is(#e, #f)", False),
    ],
)
def test_such_a_rule_is_found(selector: str, expected: bool) -> None:
    assert styles_any(selector) == expected
