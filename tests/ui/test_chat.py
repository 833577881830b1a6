"""The Chat tab in a real browser, with the real demo model."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import Served, Web, start, until

QUESTION = "Tell me the capital of France."
LONG = "Write a very long story about a fox and a hen."


def text_of(page: Page) -> str:
    return page.locator("#tail .bot-row .prose").last.inner_text()


def begin(web: Web, text: str) -> None:
    """Ask for a reply that is long enough to be stopped, and wait for its first words."""
    web.tab("parameters")
    web.page.locator("#knob-max_new_tokens input[type=number]").fill("1500")
    web.page.locator("#knob-ban_eos_token input").check()  # else the story is now and then short
    web.slow_down()
    web.tab("chat")
    web.send(text)
    web.page.wait_for_function("document.querySelector('#tail .bot-row:last-child .prose')?.innerText.length > 20")


def test_a_question_is_answered(web: Web) -> None:
    web.new_chat()
    web.ask(QUESTION)
    expect(web.reply).to_contain_text("Paris")
    expect(web.page.locator("#tail .user-row")).to_contain_text(QUESTION)
    expect(web.page.locator("#reply-facts")).to_contain_text("prompt tokens reused")
    expect(web.page.locator("#message textarea")).to_have_value("")
    expect(web.page.locator("#chat-list [aria-current]")).to_contain_text(QUESTION)


def test_a_conversation_goes_on_and_the_last_exchange_moves_up(web: Web) -> None:
    web.new_chat()
    web.ask(QUESTION)
    web.ask("And of Italy?")
    expect(web.page.locator("#history .message-row")).to_have_count(2)
    expect(web.page.locator("#tail .message-row")).to_have_count(2)
    expect(web.page.locator("#history .bot-row")).to_contain_text("Paris")


def test_shift_enter_is_a_new_line(web: Web) -> None:
    box = web.page.locator("#message textarea")
    box.fill("one")
    box.press("Shift+Enter")
    box.type("two")
    expect(box).to_have_value("one\ntwo")


def test_stop_keeps_what_is_there_and_continue_goes_on(web: Web) -> None:
    web.new_chat()
    begin(web, LONG)
    expect(web.page.locator("#send")).to_be_hidden()
    web.page.locator("#stop").click()
    web.done()
    expect(web.page.locator("#reply-facts")).to_contain_text("stopped")
    before = text_of(web.page)
    web.page.keyboard.press("Alt+Enter")
    web.page.wait_for_function(f"document.querySelector('#tail .bot-row .prose').innerText.length > {len(before) + 40}")
    web.page.keyboard.press("Escape")
    web.done()
    assert text_of(web.page).startswith(before.rstrip()[:-1])


def test_escape_stops(web: Web) -> None:
    web.new_chat()
    begin(web, LONG)
    web.page.keyboard.press("Escape")
    web.done()
    expect(web.page.locator("#reply-facts")).to_contain_text("stopped")


def test_regenerate_makes_another_version(web: Web) -> None:
    web.new_chat()
    web.ask(QUESTION)
    id = str(web.page.locator("#chat-list [aria-current]").get_attribute("data-pick"))
    last = web.app.chats.open(id).path()[-1]
    web.page.keyboard.press("Control+Enter")
    until(lambda: len(web.app.chats.open(id).versions(last.id)) == 2)
    web.done()
    expect(web.reply).to_contain_text("Paris")


def test_remove_last_gives_the_question_back(web: Web) -> None:
    web.kept([QUESTION, "Paris."])
    web.page.locator("#more-actions").click()
    web.page.locator("#remove-last").click()
    expect(web.page.locator("#message textarea")).to_have_value(QUESTION)
    expect(web.page.locator("#tail .message-row")).to_have_count(0)


def test_there_again_after_a_reload(web: Web) -> None:
    web.new_chat()
    web.ask(QUESTION)
    answer = text_of(web.page)
    web.page.reload()
    expect(web.reply).to_have_text(answer)


def test_a_reply_that_is_being_written_goes_on_in_another_window(web: Web) -> None:
    web.new_chat()
    begin(web, LONG)
    other = web.context.new_page()
    other.goto(web.url)
    expect(other.locator("#stop")).to_be_visible()
    other.locator("#stop").click()
    expect(other.locator("#reply-facts")).to_contain_text("stopped")
    expect(other.locator("#send")).to_be_visible()
    web.done()


def test_an_empty_message_changes_nothing(web: Web) -> None:
    web.new_chat()
    web.ask(QUESTION)
    web.page.locator("#send").click()
    expect(web.page.locator("#send")).to_be_visible()
    expect(web.reply).to_contain_text("Paris")
    web.ask("And of Italy?")
    expect(web.page.locator("#column .message-row")).to_have_count(4)


def test_there_again_after_a_restart(web: Web, served: Served) -> None:
    web.new_chat()
    web.ask(QUESTION)
    answer = text_of(web.page)
    again = start(served.root)
    page = web.context.browser.new_page()
    page.goto(again.url)
    expect(page.locator("#tail .bot-row .prose").last).to_have_text(answer)
    expect(page.locator("#notice")).to_contain_text("No model is loaded")
    page.close()
    again.app.close()


def test_a_stale_window_is_told_and_gives_the_text_back(web: Web) -> None:
    web.kept([QUESTION, "Paris."])
    web.open()
    other = web.context.new_page()
    other.goto(web.url)
    expect(other.locator("#tail .bot-row")).to_be_visible()
    # without the model: a window that has just opened would follow a reply that is being written
    web.page.keyboard.press("Control+s")
    web.page.locator("#message textarea").fill("And of Spain?")
    web.page.locator("#dummy-message").click()
    expect(web.page.locator("#tail .user-row")).to_contain_text("And of Spain?")
    other.locator("#message textarea").fill("And of Italy?")
    other.locator("#send").click()
    expect(other.locator(".toast-body")).to_contain_text("changed in another window")
    expect(other.locator("#message textarea")).to_have_value("And of Italy?")
    expect(other.locator("#tail .user-row")).to_contain_text("And of Spain?")


def test_without_a_model_the_text_is_given_back(web: Web) -> None:
    web.new_chat()
    web.app.models.unload()
    expect(web.page.locator("#chip")).to_have_text("No model loaded")
    web.page.locator("#message textarea").fill("Anyone there?")
    web.page.locator("#send").click()
    expect(web.page.locator(".toast-body")).to_contain_text("No model is loaded")
    expect(web.page.locator("#message textarea")).to_have_value("Anyone there?")
    web.page.locator("#choose-model").click()
    expect(web.page.locator("#tab-model")).to_be_visible()


def test_what_a_person_writes_is_no_markup_of_ours(web: Web) -> None:
    """A message with a script in it is shown as text: neither the list of chats nor the message runs it."""
    web.new_chat()
    web.ask('Say hi. <img src=x onerror="window.broken = 1"><script>window.broken = 1</script>')
    expect(web.page.locator("#chat-list [aria-current]")).to_contain_text("<img")
    assert web.page.evaluate("window.broken") is None


@pytest.mark.parametrize("how", ["Enter", "the button"])
@pytest.mark.parametrize("opener", ["new", "pick", "delete"])
def test_what_is_sent_while_another_chat_is_being_opened_goes_to_that_one(
    web: Web, monkeypatch: pytest.MonkeyPatch, opener: str, how: str
) -> None:
    """However slow the server is: here it answers only after the message was sent."""
    for text in ("The first chat.", "The second chat."):
        web.kept([text, "I see."], text)
    page = web.page
    here = web.app.chats.list()[0].id
    before = len(web.app.chats.open(here).path())
    expect(page.locator("#tail .user-row")).to_contain_text("The second chat.")
    if opener == "delete":
        web.menu()
        page.locator("#chat-delete").click()
        expect(page.locator("#chat-delete-now")).to_be_visible()
    text = f"Does {how} after {opener} go astray?"
    answers = threading.Event()
    for name in ("new", "open", "latest"):
        _slowly(monkeypatch, web, name, answers)
    if opener == "new":
        page.locator("#new-chat").click()
    elif opener == "pick":
        page.locator("#chat-list [data-pick]", has_text="The first chat").first.click()
    else:
        page.locator("#chat-delete-now").click()
    page.locator("#message textarea").fill(text)
    if how == "Enter":
        page.locator("#message textarea").press("Enter")
    else:
        page.locator("#send").click()
    page.wait_for_timeout(300)  # time for it to go astray
    answers.set()
    expect(page.locator("#tail .user-row")).to_contain_text(text)
    web.done()
    found = [info.id for info in web.app.chats.list() if text in _said(web, info.id)]
    assert len(found) == 1
    assert here not in found
    if opener != "delete":
        assert len(web.app.chats.open(here).path()) == before


def _said(web: Web, id: str) -> list[str]:
    return [message.text for message in web.app.chats.open(id).path()]


def _slowly(monkeypatch: pytest.MonkeyPatch, web: Web, name: str, answers: threading.Event) -> None:
    real = getattr(web.app.chats, name)

    def slow(*given: Any, **more: Any) -> Any:
        answers.wait(30)
        return real(*given, **more)

    monkeypatch.setattr(web.app.chats, name, slow)


def test_the_scroll_stays_where_the_reader_is(web: Web) -> None:
    web.new_chat()
    web.page.set_viewport_size({"width": 1000, "height": 480})
    web.ask(LONG)
    reading = web.page.locator("#reading")
    web.page.wait_for_function(  # the page follows in a later frame
        "(e => e.scrollHeight - e.scrollTop - e.clientHeight < 48)(document.querySelector('#reading'))"
    )
    begin(web, LONG)
    reading.evaluate("e => { e.scrollTop = 0; }")
    web.page.wait_for_function(f"document.querySelector('#tail .bot-row .prose').innerText.length > {len(LONG) * 4}")
    web.page.keyboard.press("Escape")
    web.done()
    assert reading.evaluate("e => e.scrollTop") == 0


def test_the_demo_model_is_announced_honestly(web: Web) -> None:
    expect(web.page.locator("#notice")).to_contain_text("a very small model for trying things out")
