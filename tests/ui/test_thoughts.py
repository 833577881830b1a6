"""Reasoning that grows in the chat: it is collapsible, and a button ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import Web

THINKS = (
    "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.fixture
def thinking(web: Web) -> Iterator[Web]:
    web.slow_down()
    templates = web.app.templates
    vars(templates)["detect"] = lambda model: (THINKS, "a test")
    yield web
    del vars(templates)["detect"]


def test_a_button_ends_the_thought(thinking: Web) -> None:
    page = thinking.page
    thinking.new_chat()
    button = page.locator("#end-thought")
    expect(button).not_to_be_visible()
    thinking.send("Why is the sky blue?")
    expect(button).to_be_visible()
    button.click()
    expect(button).not_to_be_visible()
    page.locator("#tail .bot-row", has_text="Thought").wait_for()
    page.locator("#stop").click()
    thinking.done()
    kept = thinking.app.chats.list()[0]
    text = thinking.app.chats.open(kept.id).path()[-1].text
    assert text.startswith("<think>\n")
    assert "\n</think>\n\n" in text
