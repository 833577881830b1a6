"""Nothing that a person types or chooses is undone by an answer that comes late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from modules.ui.parts.page_blocks import PageBlocks
from tests.ui.conftest import Web

LATE = 2.0  # seconds

#: Changes every field that can be seen, as a person would; returns [element's id, value] of each.
_FIELDS = """
(tab) => [...document.querySelectorAll(`#tab-${tab} :is(textarea, input)`)]
  .filter((field) => ['textarea', 'text', 'number'].includes(field.type) && field.offsetParent
    && !field.disabled && !field.readOnly && !field.closest('.text-editor, [role=listbox], .wrap-inner'))
  .slice(0, 12)
  .map((field, at) => { field.dataset.late = at; return [at, field.type]; })
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


@pytest.mark.parametrize("tab", ["chat", "default", "notebook", "parameters", "model", "training", "session"])
def test_what_is_typed_while_an_answer_is_on_its_way_stays(late: Web, tab: str) -> None:
    page = late.page
    late.delay = LATE  # type: ignore[attr-defined]
    page.reload()  # its first answers fill every field of the page
    page.locator(f"#tab-{tab}-button").click()
    page.wait_for_timeout(300)
    fields = page.evaluate(_FIELDS, tab)
    assert fields, "nothing to type in"
    typed = {}
    for at, kind in fields:
        text = "7" if kind == "number" else f"typed {at}"
        page.locator(f"[data-late='{at}']").fill(text)
        typed[at] = page.locator(f"[data-late='{at}']").input_value()
    answered(late)
    left = {at: page.locator(f"[data-late='{at}']").input_value() for at in typed}
    assert left == typed


def test_a_loader_chosen_right_after_a_model_is_that_models(late: Web) -> None:
    page = late.page
    late.tab("model")
    loader = page.locator("#loader")
    expect(loader).to_be_visible()
    other = loader.locator("input[type=radio]:not(:checked)").last
    name = other.get_attribute("value") or ""
    late.delay = LATE  # type: ignore[attr-defined]
    page.locator("#catalog-list [data-pick]").first.click()
    page.wait_for_timeout(100)
    other.click(force=True)
    answered(late)
    page.wait_for_timeout(int(LATE * 1000))
    expect(loader.locator(f"input[type=radio][value='{name}']")).to_be_checked()
