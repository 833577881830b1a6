"""Server time and transferred bytes per streamed update of the chat, with 1,000 messages compared with 2.

The page's own function runs through gradio's machinery (`Blocks.process_api`, which also computes the difference that
is sent), with a scripted model: this measures the chat and the page, not the engine.
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
from modules.chat.store.store import ConversationStore
from modules.ui.chat.view import ChatRef
from tests.fake_engine import FakeModel

ROUNDS = 7
WORDS = "The lighthouse keeper counted **forty** ships, wrote them down, and closed the `book`. "


def conversation(app: App, messages: int) -> Conversation:
    """A stored conversation of this many messages; the last one is the assistant's."""
    chat = app.chats.new()
    parent = None
    for i in range(messages):
        parent = chat.add("assistant" if i % 2 else "user", f"{WORDS * 4}({i})", parent).id
    ConversationStore(app.paths).save(chat)
    return app.chats.open(chat.id)


async def stream(page: Any, fn: Any, text: str, *states: Any) -> tuple[list[float], list[int]]:
    """Milliseconds and bytes of each update of one reply, as the page gets it; `states` are passed to the function's
    inputs of their types.
    """
    from gradio.state_holder import SessionState

    session, named = SessionState(page), {type(state): state for state in states}
    inputs = []
    for component in fn.inputs:
        if type(component).__name__ == "State":
            session[component._id] = named[type(component.value)]
            inputs.append(None)
        elif component.elem_id == "message":
            inputs.append(text)
        else:
            inputs.append(component.postprocess(component.value) if component.value is not None else None)
    iterator, times, sizes = None, [], []
    while True:
        started = time.perf_counter()
        answer = await page.process_api(
            fn, inputs, state=session, iterator=iterator, session_hash="bench", event_id="bench"
        )
        took = (time.perf_counter() - started) * 1000
        if not answer["is_generating"]:
            return times, sizes
        iterator = answer["iterator"]
        times.append(took)
        sizes.append(len(json.dumps(answer["data"], default=str)))


async def measure(root: Path) -> tuple[list[Figure], str]:
    import shutil

    from bench.figure import ROOT
    from modules.ui import build_page
    from modules.ui.chat import window_state

    for folder in ("presets", "instruction-templates", "characters"):
        shutil.copytree(ROOT / folder, root / folder)
    app = App.build(root, [])
    model = FakeModel(reply=WORDS * 36, context_length=200_000)
    app.models.adopt(model)
    # every token is one update here
    window_state.UPDATES_PER_SECOND = window_state.CHARACTERS_PER_SECOND = 10**9
    page = build_page(app)
    fn = next(fn for fn in page.fns.values() if fn.name == "send")
    times: dict[int, list[float]] = {2: [], 1000: []}
    sizes: dict[int, list[float]] = {2: [], 1000: []}
    for _ in range(ROUNDS):
        for messages in (2, 1000):
            chat = conversation(app, messages)
            place = ChatRef(chat.id, chat.revision)
            took, wire = await stream(page, fn, "Go on.", window_state.WindowState(), place)
            # without the first and last updates, which show the whole screen
            times[messages].append(statistics.median(took[5:-2]))
            sizes[messages].append(statistics.median(wire[5:-2]))
            print(
                f"  {messages} messages: {len(took)} updates, {times[messages][-1]:.2f} ms, {sizes[messages][-1]} bytes"
            )
    app.close()
    a, b = (Side(f"{n:,} messages", times[n]) for n in (1000, 2))
    wire_a, wire_b = (Side(f"{n:,} messages", sizes[n]) for n in (1000, 2))
    return (
        [
            Figure("", "server time per streamed update", "ms", a, b, 1.2, at_most=True),
            Figure("", "bytes sent per streamed update", "bytes", wire_a, wire_b, 1.0, at_most=True),
        ],
        f"Medians of {ROUNDS} replies of about 500 updates each, one per token (the page gets 30 per second).",
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        found, notes = asyncio.run(measure(Path(root)))
    write("chat_updates", found, notes)
