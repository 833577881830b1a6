"""The page header: seven tabs, light and dark, nothing loaded from outside, and a narrow screen."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from loaders.base import Finish, Request
from loaders.params import SamplingParams
from tests.ui.conftest import Web, until

TABS = ["Chat", "Default", "Notebook", "Parameters", "Model", "Training", "Session"]


def test_the_tabs_stand_in_their_order(web: Web) -> None:
    expect(web.page.locator("#tabs > .tab-wrapper [role=tab]")).to_have_text(TABS)


def test_the_queue_shows_who_is_answered_and_ends_whom_one_likes(web: Web) -> None:
    model = web.app.models.current()
    ids = model.tokenizer.encode("Once upon a time")
    request = Request(ids, SamplingParams(ban_eos_token=True), 1900, label="another program")
    stream = model.generate(request)
    next(stream)
    web.tab("session")
    row = web.page.locator("#queue-view li", has_text="another program")
    expect(row).to_contain_text("running")
    row.get_by_role("button").dispatch_event("pointerdown")
    until(request.cancel.is_set)
    for _ in stream:
        pass
    assert stream.report.finish is Finish.CANCELLED
    expect(web.page.locator("#queue-view")).to_contain_text("No requests")


def test_a_card_that_is_nearly_full_is_told(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.app.models.current(), "warning", lambda: "RTX 3060 is almost full: 0.2 GB left")
    expect(web.page.locator("#queue")).to_contain_text("RTX 3060 is almost full")


def test_light_and_dark_are_remembered(web: Web) -> None:
    dark = "document.documentElement.classList.contains('dark')"
    assert not web.page.evaluate(dark)  # the settings say so
    web.page.locator("#theme-switch").click()
    assert web.page.evaluate(dark)
    web.page.reload()
    web.ready()
    assert web.page.evaluate(dark)
    assert web.page.evaluate("document.body.classList.contains('dark')")


def test_no_other_host_is_named_in_the_page(web: Web) -> None:
    """Links a person may follow are no requests, but nothing in the head may point outside."""
    hosts = web.page.evaluate(
        "[...document.head.querySelectorAll('[src],[href],[content]')].map(e => e.src || e.href || e.content)"
        ".filter(u => /^https?:/.test(u) && !u.startsWith(location.origin))"
    )
    assert hosts == []


def test_a_narrow_screen_does_not_scroll_sideways(narrow: Web) -> None:
    page = narrow.page
    for name in TABS:
        page.locator(f"#tab-{name.lower()}-button").click()
        expect(page.locator(f"#tab-{name.lower()}")).to_be_visible()
        wide = page.evaluate("Math.max(...[...document.querySelectorAll('.tabitem')].map(e => e.scrollWidth))")
        assert wide <= 360, name
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name


def test_targets_on_a_narrow_screen_are_large_enough(narrow: Web) -> None:
    narrow.ask("Hello")
    small = narrow.page.evaluate(
        "[...document.querySelectorAll('#bar button, #talk > * button, #reply-actions button, #ask button')]"
        ".filter(e => e.offsetParent && !e.closest('.message-row') && e.getBoundingClientRect().height < 40)"
        ".map(e => e.id || e.textContent)"
    )
    assert small == []


def test_the_chats_are_a_drawer_on_a_narrow_screen(narrow: Web) -> None:
    page = narrow.page
    expect(page.locator("#chats")).to_be_hidden()
    page.locator("#chats-toggle").click()
    expect(page.locator("#chats")).to_be_visible()
    page.locator("#new-chat").click()
    expect(page.locator("#chats")).to_be_hidden()
