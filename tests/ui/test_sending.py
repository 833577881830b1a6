"""A message is shown by the browser as soon as it is sent, until the server's own row takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from errors import Conflict
from modules.ui.chat.styles import CHAT_STYLES
from modules.ui.parts.page_blocks import PageBlocks
from tests.ui.conftest import Web

#: In every frame from now on: how many rows in sight have this text, and whether the column is at its end.
_FRAMES = """
(text) => {
  window.frames_ = [];
  const look = () => {
    const rows = [...document.querySelectorAll('#column .user-row')]
      .filter((row) => row.offsetParent && row.textContent.includes(text));
    window.frames_.push(rows.length);
    if (window.frames_.length < 4000) requestAnimationFrame(look);
  };
  look();
}
"""
#: Where the parts of the last message and of the reply below it are, in each style.
_PLACES = """
([row, reply, styles]) => styles.map((style) => {
  document.body.dataset.chatStyle = style;
  return [`${row} > .flex-wrap`, `${row} .prose`, `${row} .prose p:last-child`, `${reply} > .flex-wrap`, '#reply-facts']
    .map((query) => [...document.querySelectorAll(query)].pop().getBoundingClientRect())
    .map((box) => [box.left, box.top, box.width, box.height].map(Math.round))
    .map(([left, top, width, height], at) => (at < 3 ? [left, top, width, height] : [left, top]));
})
"""


@pytest.fixture
def held(web: Web) -> Iterator[Web]:
    """What the server answers to Send is held back while `web.held` is true."""
    real = PageBlocks.postprocess_data
    web.held = False  # type: ignore[attr-defined]

    async def later(self: PageBlocks, block_fn: Any, *given: Any) -> list[Any]:
        made = await real(self, block_fn, *given)
        while web.held and "Sending.begin" in str(block_fn.js):  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
        return made

    PageBlocks.postprocess_data = later  # type: ignore[method-assign]
    yield web
    web.held = False  # type: ignore[attr-defined]
    PageBlocks.postprocess_data = real  # type: ignore[method-assign]


def send(web: Web, text: str) -> Any:
    """Send a message whose answer is held back; returns the row that the browser shows."""
    web.held = True  # type: ignore[attr-defined]
    web.page.locator("#message textarea").fill(text)
    web.page.locator("#message textarea").press("Enter")
    row = web.page.locator(".sending .user-row")
    expect(row).to_be_visible()
    expect(web.page.locator("#message textarea")).to_have_value("")
    return row


def answer(web: Web) -> None:
    """Let the server answer, until its rows are there."""
    web.held = False  # type: ignore[attr-defined]
    expect(web.page.locator(".sending")).to_have_count(0)


@pytest.mark.parametrize(
    "text",
    [
        '<img src=x onerror="window.ran = 1"> & &amp; <script>window.ran = 1</script>',
        "</div></div><style>body { display: none }</style> 1 < 2",
    ],
    ids=["script", "style"],
)
def test_markup_in_a_sent_message_is_text(held: Web, text: str) -> None:
    held.new_chat()
    row = send(held, text)
    assert row.inner_text().strip().splitlines()[-1] == text
    expect(row.locator(".prose p > *")).to_have_count(0)
    answer(held)
    expect(held.page.locator("#tail .user-row .prose")).to_have_text(text)
    assert held.page.evaluate("window.ran") is None


def test_the_servers_row_takes_the_place_of_the_browsers(held: Web) -> None:
    page, text = held.page, "One line.\nAnother line.\n\nA second paragraph."
    held.new_chat()
    held.ask("Something before it.")
    page.evaluate(_FRAMES, "A second paragraph.")
    styles = list(CHAT_STYLES)
    send(held, text)
    expect(page.locator("#reply-actions")).to_be_hidden()
    before = page.evaluate(_PLACES, [".sending .user-row", ".sending .bot-row", styles])
    held.slow_down()
    answer(held)
    after = page.evaluate(_PLACES, ["#tail .user-row", "#tail .bot-row", styles])
    assert dict(zip(styles, after, strict=True)) == dict(zip(styles, before, strict=True))
    frames = page.evaluate("window.frames_")
    assert set(frames[frames.index(1) :]) == {1}, "in no frame there are two, or none"
    page.locator("#stop").click()
    expect(page.locator("#send")).to_be_visible()


def refuse_in_the_service(web: Web) -> Callable[[], None]:
    def refused(*_: Any) -> Any:
        raise Conflict("Not now.")

    vars(web.app.chats)["send"] = refused
    return lambda: vars(web.app.chats).pop("send")


def refuse_the_event(web: Web) -> Callable[[], None]:
    return _route(web, lambda route: route.fulfill(status=503, json={"detail": "The queue is full."}))


def lose_the_event(web: Web) -> Callable[[], None]:
    return _route(web, lambda route: route.abort())


def _route(web: Web, end: Callable[[Route], None]) -> Callable[[], None]:
    place = "**/queue/join*"

    def stop(route: Route) -> None:
        said = "A refused message" in (route.request.post_data or "")
        if said:
            while web.page.evaluate("document.querySelector('#message textarea').value") != "typed since":
                web.page.wait_for_timeout(20)
            end(route)
        else:
            route.continue_()

    web.page.route(place, stop)
    return lambda: web.page.unroute(place)


@pytest.mark.parametrize("refuse", [refuse_in_the_service, refuse_the_event, lose_the_event])
def test_a_refused_message_is_taken_away_and_is_in_the_box_again(
    held: Web, refuse: Callable[[Web], Callable[[], None]]
) -> None:
    page, box = held.page, held.page.locator("#message textarea")
    held.new_chat()
    again = refuse(held)
    page.evaluate("window.frames_ = []")
    row = send(held, "A refused message")
    box.fill("typed since")
    held.held = False  # type: ignore[attr-defined]
    expect(row).to_have_count(0)
    expect(page.locator("#column .user-row")).to_have_count(0)
    expect(box).to_have_value("A refused message\ntyped since")
    expect(page.locator("#welcome")).to_be_visible()
    again()
    if refuse is lose_the_event:  # the page is loaded anew as soon as the server is there again
        page.wait_for_function("window.frames_ === undefined")
        held.ready()
        expect(box).to_have_value("A refused message\ntyped since")
    box.fill("This one is taken")
    box.press("Enter")
    expect(page.locator("#tail .user-row .prose")).to_have_text("This one is taken")
    held.done()


def test_a_sent_message_is_shown_in_its_own_chat_only(held: Web) -> None:
    page = held.page
    held.new_chat()
    held.ask("The other chat")
    other = page.locator("#chat-title [data-menu]").get_attribute("data-menu")
    held.new_chat()
    held.ask("The first message here")
    here = page.locator("#chat-title [data-menu]").get_attribute("data-menu")
    row = send(held, "The second message here")
    page.locator(f'#chat-list [data-pick="{other}"]').click()
    expect(page.locator("#tail .user-row")).to_contain_text("The other chat")
    expect(row).to_be_hidden()
    expect(page.locator("#reply-actions")).to_be_visible()
    page.locator(f'#chat-list [data-pick="{here}"]').click()
    expect(page.locator("#tail .user-row")).to_contain_text("The first message here")
    expect(row).to_be_visible()
    answer(held)
    expect(page.locator("#tail .user-row")).to_contain_text("The second message here")
    expect(page.locator("#column .user-row")).to_have_count(2)
    held.done()


def test_another_window_gets_the_message_from_the_server(held: Web) -> None:
    held.new_chat()
    held.ask("Both windows show this")
    second = held.context.new_page()
    second.goto(held.url)
    shown = second.locator("#column .user-row")
    expect(shown).to_have_count(1)
    send(held, "Sent in one of them")
    expect(shown).to_have_count(1)
    answer(held)
    expect(shown).to_have_count(2)
    expect(second.locator(".sending")).to_have_count(0)
    held.done()


def test_a_message_that_did_not_arrive_is_in_the_box_after_a_reload(held: Web) -> None:
    page = held.page
    held.new_chat()
    held.ask("Something before it.")
    page.route(
        "**/queue/join*", lambda route: None if "Not arrived" in (route.request.post_data or "") else route.continue_()
    )
    send(held, "Not arrived")
    page.unroute("**/queue/join*")
    page.reload()
    expect(page.locator("#message textarea")).to_have_value("Not arrived")
    expect(page.locator("#column .user-row")).to_have_count(1)
