"""Replies in progress: sending, opening and clicking other things meanwhile, in this window and others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from modules.ui.chat.avatars import avatar_style
from tests.ui.conftest import Web, until

LONG = "Count from one to fifty, in words."  # 120 tokens: 40 seconds
OTHER = "Tell me the capital of France."
#: Where it does not matter that the model said it.
EXCHANGE = (OTHER, "The capital of France is Paris.")


@pytest.fixture
def slow(web: Web) -> Iterator[Web]:
    """Replies grow slowly: there is time to do something else, however slow the browser is."""
    web.slow_down()
    web.new_chat()
    yield web
    for id in [*web.app.chats._live]:
        web.app.chats.stop(id)
    until(lambda: not web.app.chats._live)


def begin(web: Web, text: str) -> None:
    web.send(text)
    expect(web.page.locator("#tail .bot-row .prose").last).not_to_be_empty()


def new_chat_of_the_drawer(narrow: Web) -> None:
    narrow.page.locator("#chats-toggle").click()
    narrow.new_chat()


def spoken(text: str) -> list[str]:
    """The words: a list's numbers are not among what the page shows of it."""
    return re.findall(r"[a-z]+", text.lower())


def box(web: Web) -> Locator:
    return web.page.locator("#message textarea")


def test_what_is_sent_while_a_reply_grows_stays_in_the_box(slow: Web) -> None:
    page = slow.page
    begin(slow, LONG)
    for _ in range(2):
        box(slow).fill("And then?")
        box(slow).press("Enter")
        expect(page.locator(".toast-wrap")).to_contain_text("in this conversation. Wait")
        expect(box(slow)).to_have_value("And then?")
        expect(page.locator("#column .user-row")).to_have_count(1)
    page.locator("#stop").click()
    expect(page.locator("#send")).to_be_visible()
    expect(box(slow)).to_have_value("And then?")
    box(slow).press("Enter")
    expect(page.locator("#column .user-row")).to_have_count(2)


def test_what_is_typed_elsewhere_while_a_reply_grows_stays(slow: Web) -> None:
    """The answers of a reply are differences from each other, and the last of them shows the whole chat."""
    page = slow.page
    begin(slow, LONG)
    page.keyboard.press("Control+s")
    field = page.locator("#own-system textarea")
    field.fill("Be brief.")
    field.press_sequentially(" Please.")
    page.locator("#stop").click()
    slow.done()
    expect(page.locator("#reply-facts")).to_contain_text("stopped")
    expect(field).to_have_value("Be brief. Please.")


def test_another_chat_is_talked_in_while_a_reply_grows(slow: Web) -> None:
    page, chats = slow.page, slow.app.chats
    begin(slow, LONG)
    (first,) = chats._live
    slow.new_chat()
    begin(slow, OTHER)
    second = page.locator("#chat-list [aria-current]").first.get_attribute("data-pick") or ""
    assert second not in ("", first)
    expect(page.locator("#column .user-row")).to_have_count(1)
    for _ in range(8):  # what the first chat says is never seen here
        expect(page.locator("#tail .user-row")).to_contain_text(OTHER)
        shown = page.locator("#tail .bot-row .prose").last.inner_text()
        so_far = chats.writing(second)
        assert so_far is None or so_far.text.startswith(shown[:4])
        page.wait_for_timeout(120)
    until(lambda: chats.writing(second) is None)
    assert chats.writing(first) is not None  # it goes on, unseen
    expect(page.locator("#tail .bot-row")).to_contain_text("Paris")
    page.locator(f'#chat-list [data-pick="{first}"]').click()
    expect(page.locator("#tail .user-row")).to_contain_text(LONG)
    before = len(slow.reply.inner_text())
    page.wait_for_function(f"document.querySelector('#tail .bot-row .prose').innerText.length > {before + 5}")
    page.locator("#stop").click()
    expect(page.locator("#send")).to_be_visible()
    assert [each.role for each in chats.open(first).path()] == ["user", "assistant"]
    assert [each.role for each in chats.open(second).path()] == ["user", "assistant"]


def test_a_stale_window_shows_the_chat_as_it_stands(web: Web) -> None:
    web.kept(EXCHANGE)
    page, chats = web.page, web.app.chats
    place = page.locator("#chat-list [aria-current]").first.get_attribute("data-pick") or ""
    page.locator("#tail .user-row .prose").click()  # while a message is picked, nothing is shown anew by itself
    expect(page.locator("#message-bar")).to_be_visible()
    chats.rename(place, "Renamed elsewhere")
    web.menu()
    page.locator("#chat-pin").click()
    expect(page.locator(".toast-wrap")).to_contain_text("The current version is now shown")
    expect(page.locator("#chat-title")).to_contain_text("Renamed elsewhere")
    web.menu()
    page.locator("#chat-pin").click()
    expect(page.locator("#chat-list h3").first).to_have_text("Pinned")
    web.menu()
    page.locator("#chat-unpin").click()
    expect(page.locator("#chat-list h3").first).to_have_text("Today")


def test_a_character_that_came_later_can_be_talked_to(web: Web) -> None:
    page, app = web.page, web.app
    (app.paths.characters / "Late.yaml").write_text(
        "name: Zoë Late\ngreeting: Here I am.\ncontext: She is late.\n", "utf-8"
    )
    try:
        conversation = app.chats.new("chat", "Late")
        app.chats.rename(conversation.id, "A late one")
        page.locator("#chat-search textarea, #chat-search input").first.fill("Here I am")
        page.locator(f'#chat-list [data-pick="{conversation.id}"]').click()
        expect(page.locator("#tail")).to_contain_text("Here I am.")
        begin(web, "Hello")
        web.done()
        named = page.evaluate("getComputedStyle(document.body).getPropertyValue('--reply-name')")
        assert named.strip() == '"Zoë Late"'
    finally:
        (app.paths.characters / "Late.yaml").unlink()


def test_a_name_is_a_string_of_css() -> None:
    assert '--reply-name: "a\\22 b\\5c c\\3c d\\a é日"' in avatar_style("reply", 'a"b\\c<d\né日', None)


def test_the_editor_is_as_high_as_its_text_and_escape_closes_it(narrow: Web) -> None:
    page = narrow.page
    new_chat_of_the_drawer(narrow)
    narrow.ask(OTHER)
    page.locator("#tail .user-row .prose").click()
    page.locator("#message-edit").click()
    expect(page.locator("#message-text textarea")).to_be_focused()
    editor, reading = (page.locator(f"#{name}").bounding_box() for name in ("message-editing", "reading"))
    assert editor
    assert reading
    assert editor["height"] < 330
    assert reading["height"] > 60
    for gone in ("#message-editing", "#message-bar"):
        expect(page.locator(gone)).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(gone)).to_be_hidden()


def test_what_is_wide_scrolls_by_itself(narrow: Web) -> None:
    page = narrow.page
    new_chat_of_the_drawer(narrow)
    sums = " + ".join(f"x_{{{number}}}" for number in range(60))
    text = f"`{'unbroken' * 40}`\n\n$$ {sums} $$\n\n| heading | another one |\n| --- | ---: |\n| a | b |"
    text += "\n\n![a tree](https://example.com/tree.png)"
    page.keyboard.press("Control+s")
    page.locator("#message textarea").fill(text)
    page.locator("#dummy-message").click()
    page.keyboard.press("Escape")
    expect(page.locator("#tail .katex-display")).to_be_attached()
    room = page.locator("#reading").bounding_box()
    assert room
    for part in ("code", ".katex-display", "table"):
        found = page.locator(f"#tail .prose {part}").first.bounding_box()
        assert found
        assert found["x"] + found["width"] <= room["x"] + room["width"] + 1, part
    expect(page.locator("#tail .prose td").last).to_have_css("text-align", "right")
    expect(page.locator("#tail .prose")).to_contain_text("example.com, not loaded")


def test_a_restored_chat_is_in_the_list_at_once(web: Web) -> None:
    web.kept(EXCHANGE)
    page = web.page
    count = page.locator("#chat-list [data-pick]").count()
    page.locator("#tail .user-row .prose").last.click()
    expect(page.locator("#message-bar")).to_be_visible()
    web.menu()
    page.locator("#chat-delete").click()
    page.locator("#chat-delete-now").click()
    expect(page.locator("#chat-list [data-pick]")).to_have_count(count - 1)
    expect(page.locator("#message-bar")).to_be_hidden()
    page.locator("#chat-files button").first.click()
    page.locator("#chat-trash [data-pick]").first.click()
    expect(page.locator("#chat-list [data-pick]")).to_have_count(count)


def test_the_trash_is_emptied_after_a_question(web: Web) -> None:
    web.kept(EXCHANGE)
    page, archive = web.page, web.app.archive
    count = len(archive.trash()) + 1
    page.locator("#chat-files button").first.click()
    expect(page.locator("#chat-trash [data-pick]")).to_have_count(count - 1)  # open already when a chat comes in
    web.menu()
    page.locator("#chat-delete").click()
    page.locator("#chat-delete-now").click()
    expect(page.locator("#chat-trash [data-pick]")).to_have_count(count)
    page.locator("#chat-empty-trash").click()
    expect(page.locator("#chat-emptying")).to_contain_text("for good")
    page.locator("#chat-emptying button", has_text="Cancel").click()
    expect(page.locator("#chat-emptying")).to_be_hidden()
    assert len(archive.trash()) == count
    # one alone: beside the click that restores it
    web.new_chat()
    web.ask(OTHER)
    web.menu()
    page.locator("#chat-delete").click()
    page.locator("#chat-delete-now").click()
    expect(page.locator("#chat-trash [data-pick]")).to_have_count(count + 1)
    doomed = page.locator("#chat-trash [data-remove]").first
    id = doomed.get_attribute("data-remove")
    doomed.click()
    expect(page.locator("#chat-emptying")).to_contain_text("for good")
    page.locator("#chat-empty-now").click()
    expect(page.locator("#chat-trash [data-pick]")).to_have_count(count)
    assert id not in [info.id for info in archive.trash()]
    assert len(archive.trash()) == count
    page.locator("#chat-empty-trash").click()
    page.locator("#chat-empty-now").click()
    expect(page.locator("#chat-trash")).to_contain_text("empty")
    expect(page.locator("#chat-empty-trash")).to_be_hidden()
    assert not archive.trash()


@pytest.fixture
def phone(slow: Web, chromium: Browser) -> Iterator[Web]:
    """Another device: its browser shares nothing with the first one."""
    with contextlib.closing(chromium.new_context(viewport={"width": 360, "height": 800})) as context:
        yield Web(context, context.new_page(), slow.app, slow.url)


def test_a_reply_goes_on_while_the_page_is_closed(slow: Web) -> None:
    page, chats = slow.page, slow.app.chats
    begin(slow, LONG)
    (id,) = chats._live
    page.goto("about:blank")
    before = chats.writing(id)
    assert before
    until(lambda: len(now.text if (now := chats.writing(id)) else "") > len(before.text) + 4)
    slow.open()
    expect(page.locator("#tail .user-row")).to_contain_text(LONG)
    shown = len(slow.reply.inner_text())
    page.wait_for_function(f"document.querySelector('#tail .bot-row .prose').innerText.length > {shown + 2}")
    chats.stop(id)
    slow.done()
    assert spoken(chats.open(id).path()[-1].text)[:3] == spoken(slow.reply.inner_text())[:3]


def test_a_second_device_watches_a_reply_grow(slow: Web, phone: Web) -> None:
    page, chats = slow.page, slow.app.chats
    slow.send(LONG)
    page.locator("#stop").click()
    expect(page.locator("#send")).to_be_visible()
    id = page.locator("#chat-list [aria-current]").first.get_attribute("data-pick") or ""
    phone.page.locator("#chats-toggle").click()
    phone.page.locator(f'#chat-list [data-pick="{id}"]').click()
    expect(phone.page.locator("#tail .user-row")).to_contain_text(LONG)
    expect(phone.page.locator("#send")).to_be_visible()
    slow.send("Now count from one to ninety, in words, slowly: one, two, three, four, five")  # the phone does nothing
    expect(phone.page.locator("#tail .user-row")).to_contain_text("ninety")
    expect(phone.page.locator("#history .user-row")).to_contain_text(LONG)
    until(lambda: chats.writing(id) is None or phone.page.locator("#stop").is_visible())
    if chats.writing(id) is not None:
        phone.page.locator("#stop").click()  # it may end it, too
    expect(page.locator("#send")).to_be_visible()
    expect(phone.page.locator("#send")).to_be_visible()
    expect(phone.page.locator("#tail .user-row")).to_contain_text("ninety")
    chats.rename(id, "Renamed elsewhere")
    for each in (page, phone.page):
        expect(each.locator("#chat-title")).to_contain_text("Renamed elsewhere")


def test_a_lost_connection_is_told_and_nothing_typed_is_lost(slow: Web) -> None:
    page = slow.page
    begin(slow, LONG)
    box(slow).fill("And then?")
    slow.context.set_offline(True)
    try:
        expect(page.locator(".toast-body")).to_contain_text("No answer from the program")
        expect(page.locator(".toast-body")).to_contain_text("continues by itself")
        expect(page.locator("#tail .user-row")).to_contain_text(LONG)
    finally:
        slow.context.set_offline(False)
    page.wait_for_event("load")  # by itself
    slow.ready()
    expect(page.locator("#tail .user-row")).to_contain_text(LONG)
    expect(box(slow)).to_have_value("And then?")
    expect(page.locator("#stop")).to_be_visible()
    expect(slow.reply).not_to_be_empty()


def test_what_was_sent_and_never_arrived_is_in_the_box_again(web: Web) -> None:
    page = web.page
    web.new_chat()
    page.route("**/queue/join**", lambda route: route.abort())
    box(web).fill("Are you there?")
    box(web).press("Enter")
    expect(box(web)).to_have_value("")
    page.unroute("**/queue/join**")
    page.reload()
    web.ready()
    expect(box(web)).to_have_value("Are you there?")
    box(web).fill("")
    web.ask(OTHER)
    page.reload()
    web.ready()
    web.opened()
    expect(page.locator("#tail .user-row")).to_contain_text(OTHER)
    expect(box(web)).to_have_value("")


def test_what_is_typed_stays_with_its_chat(web: Web) -> None:
    web.kept(EXCHANGE)
    page, typed = web.page, box(web)
    first = page.locator("#chat-list [aria-current]").first.get_attribute("data-pick")
    typed.fill("For the first")
    web.new_chat()
    expect(typed).to_have_value("")
    typed.fill("For a new one")
    page.locator(f'#chat-list [data-pick="{first}"]').click()
    expect(typed).to_have_value("For the first")
    page.reload()
    web.ready()
    expect(typed).to_have_value("For the first")
    typed.fill("")
    web.new_chat()
    expect(typed).to_have_value("For a new one")
    typed.fill("")
    page.locator(f'#chat-list [data-pick="{first}"]').click()
    expect(page.locator("#tail .user-row")).to_contain_text(OTHER)
    web.opened()
    expect(typed).to_have_value("")
    typed.fill("Once more")
    web.new_chat()
    page.evaluate("Page.opens('pick')")  # a chat that is slow to open: what is typed meanwhile is for that one
    typed.fill("While it opens")
    page.locator(f'#chat-list [data-pick="{first}"]').click()
    expect(typed).to_have_value("Once more\nWhile it opens")
    typed.fill("")


def test_a_browser_that_stores_nothing_can_be_used(web: Web) -> None:
    page = web.window
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        "Object.defineProperty(window, name, {configurable: true, get() { throw new DOMException('denied'); }});"
    )
    web.open()
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.locator("#theme-switch").click()
    assert page.evaluate("document.body.classList.contains('dark')") is not dark
    web.new_chat()
    web.ask(OTHER)
    expect(web.reply).not_to_be_empty()
