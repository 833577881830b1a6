"""The chat in a real browser with 1,000 messages compared with 2: opening, typing, and CPU time per update.

A scripted model writes at a steady pace, so that both chats get the same updates. Chromium's own counters (the DevTools
Performance domain) report how long the page's main thread worked during a reply.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bench.chat_updates import WORDS, conversation
from bench.figure import Figure, Side, write
from modules.app import App
from modules.ui.chat.view import SHOWN
from tests.fake_engine import FakeModel

ROUNDS, MESSAGES = 3, (1000, 2)
OPENING, TYPING = 500.0, 1.5  # milliseconds; times
SENDING, LOADING = 100.0, 0.4  # milliseconds; MB

#: Milliseconds from the click on a chat to the frame after its last message is displayed.
_OPEN = """
([id, count]) => new Promise((done) => {
  const start = performance.now();
  const look = () => {
    const rows = document.querySelectorAll('#history .message-row, #tail .message-row').length;
    if (rows === count) requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    else requestAnimationFrame(look);
  };
  document.querySelector(`#chat-list [data-pick="${id}"]`).click();
  requestAnimationFrame(look);
})
"""
#: Milliseconds from the click on Generate to the frame that shows the message.
_SEND = """
(text) => new Promise((done) => {
  const shown = () => [...document.querySelectorAll('#column .user-row .prose')].filter((each) => each.offsetParent);
  const before = shown().length;
  const start = performance.now();
  const look = () => {
    const said = shown();
    const fresh = said.length > before && said.pop().textContent.trim() === text;
    if (fresh) requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    else requestAnimationFrame(look);
  };
  document.getElementById('send').click();
  requestAnimationFrame(look);
})
"""
#: From now on: milliseconds from each key press to the frame that shows it.
_KEYS = """
() => {
  window.keys = [];
  const field = document.querySelector('#message textarea');
  if (field.dataset.timed) return;
  field.dataset.timed = 'yes';
  field.addEventListener('keydown', () => {
    const start = performance.now();
    requestAnimationFrame(() => setTimeout(() => window.keys.push(performance.now() - start)));
  }, true);
}
"""


def counted(session: Any) -> float:
    """Milliseconds that the page's main thread has worked."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"] * 1000)


def measure(page: Any, session: Any, id: str, messages: int) -> tuple[float, float, float, float]:
    """Opening, a key press, an update, sending; each in milliseconds. The other chat is open before."""
    opening = page.evaluate(_OPEN, [id, min(messages, SHOWN + 2)])
    page.wait_for_timeout(2500)
    page.evaluate(_KEYS)
    page.locator("#message textarea").focus()
    for letter in "typing is not delayed " * 2:
        page.keyboard.press("Space" if letter == " " else letter)
    page.wait_for_function("window.keys.length >= 40")
    keys = page.evaluate("window.keys")
    page.locator("#message textarea").fill("Go on.")
    sending = page.evaluate(_SEND, "Go on.")
    page.wait_for_function("document.querySelector('#tail .bot-row:last-child .prose')?.innerText.length > 40")
    page.evaluate(
        "() => { window.updates = 0; window.watching?.disconnect(); "
        "window.watching = new MutationObserver(() => { window.updates += 1; }); "
        "window.watching.observe(document.querySelector('#tail'), {childList: true, subtree: true, "
        "characterData: true}); }"
    )
    before = counted(session)
    page.wait_for_timeout(6000)
    worked, updates = counted(session) - before, page.evaluate("window.updates")
    page.locator("#stop").click()
    page.locator("#send").wait_for(state="visible")
    page.locator("#chat-undo").click()
    page.wait_for_timeout(500)
    return opening, statistics.median(keys), worked / updates, sending


def main() -> None:
    import shutil

    from playwright.sync_api import sync_playwright

    from bench.figure import ROOT
    from modules.ui import launch

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        for name in ("presets", "instruction-templates", "characters"):
            shutil.copytree(ROOT / name, root / name)
        (root / "settings.yaml").write_text("preset: Debug-deterministic\nmax_new_tokens: 4096\n")
        app = App.build(root, ["--listen-port", "7897"])
        model = FakeModel(reply=WORDS * 200, context_length=1_000_000, delay=0.03)
        app.models.adopt(model)
        ids = {messages: conversation(app, messages).id for messages in MESSAGES}
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        session.send("Network.enable")
        fetched: list[float] = []
        session.on("Network.loadingFinished", lambda told: fetched.append(told["encodedDataLength"]))
        page.goto(launch(app))
        page.locator("#chat-list nav").wait_for()
        page.wait_for_timeout(2000)
        first = sum(fetched) / 1e6
        found: dict[int, list[tuple[float, float, float, float]]] = {messages: [] for messages in MESSAGES}
        for number in range(ROUNDS):
            for messages in reversed(MESSAGES):
                found[messages].append(measure(page, session, ids[messages], messages))
                print(
                    f"  round {number + 1}: {messages} messages:", *(f"{each:.2f} ms" for each in found[messages][-1])
                )
        browser.close()
        app.close()
    many, few = ([list(each) for each in zip(*found[messages], strict=True)] for messages in MESSAGES)
    write(
        "chat_page",
        [
            Figure("opening", "1,000 messages, from the click to the frame", "ms", Side("opening", many[0]),
                   Side("allowed", [OPENING]), 1.0, at_most=True),
            Figure("typing", "from a key press to its frame", "ms", Side("1,000 messages", many[1]),
                   Side("2 messages", few[1]), TYPING, at_most=True),
            Figure("work", "the page's main thread, per update", "ms", Side("1,000 messages", many[2]),
                   Side("2 messages", few[2]), 1.1, at_most=True),
            Figure("sending", "from the click on Generate to the message", "ms", Side("sending", many[3]),
                   Side("allowed", [SENDING]), 1.0, at_most=True),
            Figure("first", "bytes of the first load", "MB", Side("first load", [first]),
                   Side("allowed", [LOADING]), 1.0, at_most=True),
        ],
        f"Chromium without a GPU, on the same two cores as the server. Medians of {ROUNDS} rounds.",
    )  # fmt: skip
