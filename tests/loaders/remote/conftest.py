"""Models on scripted servers, and what is asked of them."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders.base import Model, Request
from loaders.remote.loader import Remote
from loaders.remote.model import RemoteModel
from modules.api.event_loop import EventLoop
from tests.conftest import keep_going
from tests.loaders.remote.scripted_server import ScriptedServer

Open = Callable[..., Model]
PROMPT = "<|im_start|>user\nHi<|im_end|>\n"


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Open]:
    """The model of these servers."""
    made: list[Model] = []

    def load(*servers: ScriptedServer | str, options: dict[str, Any] | None = None, **fields: str) -> Model:
        urls = [each if isinstance(each, str) else each.url for each in servers]
        lines = [f"url: {urls}", *(f"{name}: {value}" for name, value in fields.items())]
        path = tmp_path / f"m{len(made)}.remote.yaml"
        path.write_text("\n".join(lines))
        made.append(Remote.load(path, Remote.Options.parse(options or {}), keep_going))
        return made[-1]

    yield load
    for each in made:
        each.close()


@pytest.fixture
def lost() -> Callable[[Model], None]:
    """A long pause: nothing is known of its servers any more."""

    def pause(model: Any) -> None:
        for each in model._server.addresses.all():
            each.seen = float("-inf")

    return pause


def text_of(model: Model, request: Request) -> str:
    return b"".join(token.data for token in model.generate(request)).decode()


def ask(model: Model, text: str = PROMPT, **fields: Any) -> Request:
    return Request(model.tokenizer.encode(text), **fields)


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("it did not happen")


class ReadInLoop:
    """A stream that an event loop reads, for a test that reads it as any other."""

    def __init__(self, stream: Any, loop: EventLoop) -> None:
        self.stream = stream
        self._found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ended: BaseException | None = None
        loop.call(lambda: self._listen(loop))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> ReadInLoop:
        return self

    def __next__(self) -> Any:
        if self._ended is None:
            found = self._found.get(timeout=60)
            if not isinstance(found, BaseException):
                return found
            self._ended = found
        raise self._ended

    def _listen(self, loop: EventLoop) -> None:
        assert self.stream.listen(loop, self._wake)

    def _wake(self) -> None:
        while self.stream.waiting:
            try:
                self._found.put(next(self.stream))
            except BaseException as error:
                self._found.put(error)
                return


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    """A loop that runs in a thread of its own. It must watch nothing at the end."""
    made: queue.SimpleQueue[EventLoop] = queue.SimpleQueue()
    end = threading.Event()

    async def run() -> None:
        made.put(EventLoop())
        while not end.is_set():
            await asyncio.sleep(0.005)

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    found = made.get(timeout=20)
    yield found
    selector: Any = found.loop
    wait_until(lambda: len(selector._selector.get_map()) == 1)  # the loop's own
    end.set()
    thread.join(20)


@pytest.fixture(params=["in a thread", "in a loop"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Replies are read in either way."""
    if request.param == "in a loop":
        loop: EventLoop = request.getfixturevalue("event_loop")
        generate = RemoteModel.generate
        monkeypatch.setattr(RemoteModel, "generate", lambda *args: ReadInLoop(generate(*args), loop))
    return str(request.param)
