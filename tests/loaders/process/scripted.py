"""A loader for tests of what happens to a process: it loads at once, waits, or dies, as its option says; and a model
whose calls wait for as long as the process lives.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errors import InvalidGrammar, LoadCancelled, ModelFileError
from loaders.base import Loader, Lora, Model, Progress, Request
from loaders.knobs import knob
from loaders.params import LoadOptions
from tests.fake_engine import FakeModel, FakeStream

WAITING = "wait"  # as an adapter's name


class ScriptedOptions(LoadOptions):
    act: str = knob("", group="main", help="What the load does.")


class WaitingModel(FakeModel):
    """Its replies are slow and long; nothing else ends, but adapters of another name than WAITING."""

    def __init__(self, path: Path, options: LoadOptions) -> None:
        super().__init__("ab" * 5000, delay=0.005, name=path.name, context_length=100_000)
        self.options = options
        self.notes = ("as asked",)
        self.writing = False

    def generate(self, request: Request) -> FakeStream:
        if request.ids[0] == 0:  # a prompt that is read for ever
            self.hold_after = 0
        return super().generate(request)

    def next_logits(self, request: Request) -> Any:
        _for_ever()

    def score(self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0) -> Any:
        _for_ever()

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> Any:
        _for_ever()

    def set_loras(self, loras: Sequence[Lora]) -> None:
        if any(each.path.name == WAITING for each in loras):
            _for_ever()
        self.loras = tuple(loras)

    def grammar_start(self, grammar: str) -> Any:
        if grammar == "foreign":
            raise _UnknownError("of another library")
        raise InvalidGrammar("it is a test.")

    def close(self) -> None:
        if getattr(self.options, "act", "") == "never closes":
            _for_ever()
        if (act := getattr(self.options, "act", "")).startswith("writes "):
            self.writing = True
            threading.Event().wait(1.5)
            path = Path(act.removeprefix("writes "))
            if path.name == "for ever":
                _for_ever()
            path.write_text("whole")
        super().close()

    @property
    def saving(self) -> bool:
        return self.writing


class _UnknownError(Exception):
    """No other process can make one of these."""

    def __init__(self, text: str, *, extra: object = None) -> None:
        super().__init__(text, extra or threading.Lock())

    def __str__(self) -> str:
        return str(self.args[0])


class Scripted(Loader):
    name = "scripted"
    summary = "For tests."
    Options = ScriptedOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        return 50

    @classmethod
    def missing(cls) -> str | None:
        return None

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        act = getattr(options, "act", "")
        if not progress(0.5, "half of it"):
            raise LoadCancelled
        match act:
            case "wait":
                _for_ever()
            case "assert":
                sys.stderr.write("/src/ggml/ggml.c:123: GGML_ASSERT(n > 0) failed\n")
                sys.stderr.flush()
                os.abort()
            case "segv":
                signal.raise_signal(signal.SIGSEGV)
            case "refuse":
                raise ModelFileError(path.name, "it is a test.")
            case "unknown":
                raise _UnknownError("of another library")
        return WaitingModel(path, options)


def _for_ever() -> None:
    while True:
        threading.Event().wait(60)
