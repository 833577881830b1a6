"""Models on scripted servers, and what is asked of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders.base import Model, Request
from loaders.remote.loader import Remote
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
