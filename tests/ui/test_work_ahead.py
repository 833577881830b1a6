"""In a browser: what is typed is read before it is sent, and the next version of a reply is there at once."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.ui.conftest import Web, until

QUESTION = "Tell me the capital of France."
MESSAGE = "Name three things that one can see there, with a few words about each of them, please"


def chat_of(web: Web) -> str:
    return str(web.app.chats.list()[0].id)


def fill(page: Page, control: str, value: float) -> None:
    page.locator(f"#{control} input[type=number]").fill(str(value))
    page.locator(f"#{control} input[type=number]").press("Tab")


def test_what_is_typed_is_read_before_it_is_sent(web: Web) -> None:
    page, ahead = web.page, web.app.ahead
    web.new_chat()
    page.locator("#controls-toggle").click()
    page.locator("#setting-read_ahead input").check()
    page.locator("#controls-close").click()
    web.ask(QUESTION)
    id = chat_of(web)
    before = ahead.costs(id).read_tokens
    page.locator("#message textarea").fill(MESSAGE)
    until(lambda: ahead.costs(id).read_tokens > before and not ahead._work)
    page.locator("#message textarea").press("Enter")
    until(lambda: len(web.app.chats.open(id).path()) == 4 and web.app.chats.writing(id) is None)
    meta = web.app.chats.open(id).path()[-1].meta
    assert meta["ahead_tokens"] > 10
    expect(page.locator("#reply-facts p").first).to_have_attribute("title", re.compile("of them read ahead"))
    expect(page.locator("#ahead-costs")).to_contain_text("Read ahead")


def test_the_next_version_is_there_and_is_stored_when_it_is_shown(web: Web) -> None:
    page, app = web.page, web.app
    web.new_chat()
    page.locator("#controls-toggle").click()
    fill(page, "setting-versions_ahead", 1)
    page.locator("#controls-close").click()
    web.tab("parameters")
    page.locator("#knob-do_sample input").check()
    for knob, value in (("temperature", 1.5), ("top_k", 40), ("max_new_tokens", 24)):
        fill(page, f"knob-{knob}", value)
    web.tab("chat")
    web.ask(QUESTION)
    id = chat_of(web)
    until(lambda: app.ahead.ready(app.chats.open(id)) == 1)
    stored = app.chats.open(id)
    assert len(stored.versions(stored.path()[-1].id)) == 1
    expect(page.locator("#version-earlier")).to_be_hidden()
    page.locator("#version-later").click()
    expect(page.locator("#version-earlier")).to_have_text("‹ 2 of 2")
    assert app.ahead.costs(id).used_versions == 1
