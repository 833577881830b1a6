"""Models that are replaced during a request, and detection of which model was used.

with looked_up(models) as looks:     the n-th look at what is loaded finds the n-th of these models
with replaced_after(first, second, touches):
                                     `first` is closed when it has been touched so often; from then on `second`
                                     is the loaded one
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from errors import ModelClosed
from loaders.base import Model
from tests.fake_engine import FakeModel

#: Says whose template it is, so that a prompt shows which model made it.
_TEMPLATE = "{{% for message in messages %}}[{name}]{{{{ message.role }}}}: {{{{ message.content }}}}\n{{% endfor %}}"


class Watched(FakeModel):
    """A fake that writes down each use of it; `at` is called before each, with how many there were."""

    def __init__(self, name: str, context_length: int = 4096) -> None:
        super().__init__(f"It is {name}.", name=name, chat_template=_TEMPLATE.format(name=name))
        self.context_length = context_length
        self.__dict__["touches"] = []
        self.at: Callable[[int], None] = lambda _: None

    def __getattribute__(self, name: str) -> Any:
        inside = object.__getattribute__(self, "__dict__")
        if not name.startswith("_") and name not in ("touches", "at", "closed", "close") and "at" in inside:
            inside["touches"].append(name)
            inside["at"](len(inside["touches"]))
        return object.__getattribute__(self, name)

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        if self.closed:
            raise ModelClosed
        return np.ones((len(texts), 3), np.float32)

    def close(self) -> None:
        inside = object.__getattribute__(self, "__dict__")
        inside["closed"] = inside["tokenizer"].closed = True


@contextmanager
def looked_up(patch: pytest.MonkeyPatch, source: type, models: Sequence[Model]) -> Iterator[list[int]]:
    """While inside, each look at what is loaded finds another model. Gives what was found, by number."""
    looks: list[int] = []

    def loaded(_: object) -> Model:
        looks.append(len(looks))
        return models[min(looks[-1], len(models) - 1)]

    with patch.context() as patched:
        _find(patched, source, loaded)
        yield looks


@contextmanager
def replaced_after(
    patch: pytest.MonkeyPatch, source: type, first: Watched, second: Watched, touches: int
) -> Iterator[None]:
    """While inside, `first` is unloaded and `second` loaded in its place once `first` was touched so often."""

    def at(count: int) -> None:
        if count > touches:
            first.close()

    first.at = at
    with patch.context() as patched:
        _find(patched, source, lambda _: second if first.closed else first)
        yield


def _find(patched: pytest.MonkeyPatch, source: type, found: Callable[[Any], Model]) -> None:
    """Let each way to look at what is loaded find this."""
    patched.setattr(source, "loaded", property(found))
    patched.setattr(source, "current", found)
    if hasattr(source, "lease_default"):
        patched.setattr(source, "lease_default", lambda self: self.memory.hold(found(self)))
