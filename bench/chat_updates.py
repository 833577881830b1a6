"""Server time and bytes on the wire per streamed update of the chat, with 1,000 messages against 2.

The page's own function is driven through gradio's own machinery (`Blocks.process_api`, which also makes the difference
that goes over the wire), with a scripted model: what is measured is the chat and the page, not the engine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import Figure, Side, write
from modules.app import App
from modules.chat.conversation import Conversation
from modules.chat.store import Store
from modules.ui.chat_view import Place
from tests.fake_engine import FakeModel

ROUNDS = 7
WORDS = "The lighthouse keeper counted **forty** ships, wrote them down, and closed the `book`. "


def conversation(app: App, messages: int) -> Conversation:
    """A stored conversation of this many messages, the last one the assistant's."""
    chat = app.chats.new()
    parent = None
    for i in range(messages):
        parent = chat.add("assistant" if i % 2 else "user", f"{WORDS * 4}({i})", parent).id
    Store(app.paths).save(chat)
    return app.chats.open(chat.id)


async def stream(page: Any, fn: Any, *states: Any) -> tuple[list[float], list[int]]:
    """Milliseconds and bytes of each update of one streamed reply; `states` in the order of the function's inputs."""
    from gradio.state_holder import SessionState

    session, left = SessionState(page), iter(states)
    inputs = []
    for component in fn.inputs:
        name = type(component).__name__
        if name == "State":
            session[component._id] = next(left)
            inputs.append(None)
        else:
            inputs.append(component.postprocess(component.value) if component.value is not None else None)
    iterator, times, sizes = None, [], []
    while True:
        started = time.perf_counter()
        answer = await page.process_api(fn, inputs, state=session, iterator=iterator, session_hash="bench")
        took = (time.perf_counter() - started) * 1000
        if not answer["is_generating"]:
            return times, sizes
        iterator = answer["iterator"]
        times.append(took)
        sizes.append(len(json.dumps(answer["data"], default=str)))


async def measure(root: Path) -> tuple[list[Figure], str]:
    import shutil

    from bench.figure import ROOT
    from modules.ui import build_page, chat_window

    for folder in ("presets", "instruction-templates", "characters"):
        shutil.copytree(ROOT / folder, root / folder)
    app = App.build(root, [])
    model = FakeModel(reply=WORDS * 36, context_length=200_000)
    app.models.current = lambda: model  # type: ignore[method-assign]
    chat_window.UPDATES_PER_SECOND = 10**9  # every token is an update here
    page = build_page(app)
    fn = next(fn for fn in page.fns.values() if fn.name == "stream_send")
    times: dict[int, list[float]] = {2: [], 1000: []}
    sizes: dict[int, list[float]] = {2: [], 1000: []}
    for _ in range(ROUNDS):
        for messages in (2, 1000):
            chat = conversation(app, messages)
            place, draft = Place(chat.id, chat.revision), chat_window.Draft("Go on.", wanted=True)
            took, wire = await stream(page, fn, chat_window.Window(), place, draft)
            times[messages].append(statistics.median(took[5:]))
            sizes[messages].append(statistics.median(wire[5:]))
            print(
                f"  {messages} messages: {len(took)} updates, {times[messages][-1]:.2f} ms, {sizes[messages][-1]} bytes"
            )
    app.close()
    a, b = (Side(f"{n:,} messages", times[n]) for n in (1000, 2))
    wire_a, wire_b = (Side(f"{n:,} messages", sizes[n]) for n in (1000, 2))
    return (
        [
            Figure("", "server time per streamed update", "ms", a, b, 1.2, at_most=True),
            Figure("", "bytes on the wire per streamed update", "bytes", wire_a, wire_b, 1.0, at_most=True),
        ],
        f"Medians of {ROUNDS} replies of some 500 updates each; every token is one (the page gets 30 a second).",
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        found, notes = asyncio.run(measure(Path(root)))
    write("chat_updates", found, notes)
