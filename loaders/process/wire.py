"""The messages between a model's process and its owner, and the two pipes that carry them.

Pickled messages, each after its length. Both ends are our own program, of one user, so that pickle is safe. Arrays are
part of them: 49,152 logits (200 kB) took 0.22 ms more than an empty message (two cores, median of 200), and only
requests with logits processors, or for scores and embeddings, send any. It must not know what is done with a message.
"""

from __future__ import annotations

import contextlib
import pickle
import struct
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from errors import UserError
from loaders.base import Lora, Report, Tokenizer
from loaders.params import LoadOptions

_LENGTH = struct.Struct("!Q")

#: A token in transit: its key, and the fields of `loaders.base.Token`. A tuple, because it is sent most often.
WireToken = tuple[int, int, bytes, float | None, tuple[Any, ...]]


# --- to the model's process ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadMessage:
    """The first message. The loader is named by its module and class."""

    module: str
    loader: str
    path: Path
    options: LoadOptions
    log_level: int
    results: bytes = b""  # of `loaders.memo`


@dataclass(frozen=True)
class GenerateMessage:
    """Start a reply. `request` contains the fields of a Request except `cancel` and `processors`.

    `processors`: "" for none, "logits" if each token's logits are sent and returned changed, "tokens" if the next token
    is requested, for the first time after `patience` tokens.
    """

    key: int
    request: Mapping[str, Any]
    processors: str = ""
    patience: int = -1


@dataclass(frozen=True)
class CallMessage:
    """Call a method of the model, or of its tokenizer ("tokenizer.encode"). `request` is as in GenerateMessage."""

    key: int
    method: str
    arguments: tuple[Any, ...] = ()
    request: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CancelMessage:
    """The reply or call with this key is no longer needed."""

    key: int


@dataclass(frozen=True)
class WakeMessage:
    """Request the next token of this reply, whatever its patience is."""

    key: int


@dataclass(frozen=True)
class ProcessedMessage:
    """The answer to a ProcessMessage: logits, or a token and how long it need not be requested again."""

    key: int
    logits: Any = None
    token: int | None = None
    patience: int = -1


@dataclass(frozen=True)
class CloseMessage:
    """Free all memory and end."""


# --- from the model's process: lists of these and of WireTokens ------------------------------------------------------


@dataclass(frozen=True)
class HelloMessage:
    """The process is running and accepts messages."""


@dataclass(frozen=True)
class ProgressMessage:
    """The progress of the load."""

    fraction: float
    doing: str


@dataclass(frozen=True)
class ReadyMessage:
    """The model is loaded; the fields are those of `loaders.base.Model` and of its tokenizer."""

    model: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    results: bytes = b""  # of `loaders.memo`


@dataclass(frozen=True)
class FailedMessage:
    """The load failed."""

    error: BaseException


@dataclass(frozen=True)
class SavingMessage:
    """The model is being closed, and still writes what it keeps for later."""


@dataclass(frozen=True)
class ResultMessage:
    """The result or exception of a call; for a GenerateMessage: whether it was accepted."""

    key: int
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class ReportMessage:
    """A reply's current report, and its end if `finish` is set."""

    key: int
    report: Report
    finish: Any = None


@dataclass(frozen=True)
class ProcessMessage:
    """Change these logits, or return the next token if there are none. `ids` are the reply's from index `at` on."""

    key: int
    at: int
    ids: Sequence[int]
    logits: Any = None


@dataclass(frozen=True)
class LorasChanged:
    """The result of `set_loras`: the active adapters."""

    loras: tuple[Lora, ...]


@dataclass(frozen=True)
class PieceTable:
    """The bytes of all tokens, control tokens written out, as one text; token n ends at `ends[n]`. `hidden`: the tokens
    that have other bytes where control tokens are not written out. A tenth of the memory of as many objects.
    """

    data: bytes
    ends: npt.NDArray[np.int64]
    hidden: Mapping[int, bytes]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> PieceTable:
        """That of a tokenizer."""
        shown = [tokenizer.piece(each, special=True) for each in range(tokenizer.n_vocab)]
        hidden = {each: piece for each in range(len(shown)) if (piece := tokenizer.piece(each)) != shown[each]}
        return cls(b"".join(shown), np.cumsum([len(each) for each in shown], dtype=np.int64), hidden)

    def piece(self, token: int, *, special: bool) -> bytes:
        """The bytes of one token."""
        if not special and token in self.hidden:
            return self.hidden[token]
        start = int(self.ends[token - 1]) if token else 0
        return self.data[start : int(self.ends[token])]


class RemoteError(Exception):
    """An error of a class that only the model's process has; `kind` is its name."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return self.text


def portable(error: BaseException) -> BaseException:
    """The error in a form that can be sent: ours and Python's own unchanged, others by name and text."""
    if isinstance(error, UserError) or type(error).__module__ == "builtins":
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RemoteError(type(error).__name__, str(error))
        return error
    return RemoteError(type(error).__name__, str(error))


class Channel:
    """Messages over two pipes. Any thread may send; one receives."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing
        self._waiting: deque[bytes] = deque()
        self._writes = threading.Lock()

    def send(self, message: Any) -> None:
        """Does not wait for a thread that is sending: that one sends this as well. Raises: OSError, ValueError."""
        # waiting for a lock would deadlock if the garbage collector cancels a request in here
        data = pickle.dumps(message, protocol=5)
        self._waiting.append(_LENGTH.pack(len(data)) + data)
        while self._waiting and self._writes.acquire(blocking=False):
            try:
                while self._waiting:
                    self._write(self._waiting.popleft())
            finally:
                self._writes.release()

    def receive(self) -> Any:
        """The next message. Raises: EOFError, OSError, ValueError."""
        return pickle.loads(self._read(_LENGTH.unpack(self._read(_LENGTH.size))[0]))

    def close(self) -> None:
        """Close both ends; for the receiving thread, when it receives no more."""
        for end in (self._writing, self._reading):
            with contextlib.suppress(OSError):
                end.close()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._writing.write(left) :]

    def _read(self, size: int) -> bytes:
        data = self._reading.read(size)
        if len(data) < size:
            raise EOFError
        return data
