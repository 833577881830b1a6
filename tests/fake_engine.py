"""A model without a file: scripted replies through the real contract, for tests in which the model does not matter.

    FakeModel(reply="Paris.")                  one token a byte; then the end
    FakeModel(reply=["Pa", "ris", b"\\xe2"])    these tokens, as text or bytes (UTF-8 may be split between them)
    FakeModel(delay=0.01)                      seconds before each token
    FakeModel(fail_after=3)                    raises EngineFailed after that many tokens
    FakeModel(hold_after=2)                    then gives no more until cancelled (or `release` is set)
    FakeModel(reply=lambda request: "...")     a reply that depends on the request
    FakeModel(logits={65: 2.0})                what `next_logits` gives

Ids 0 to 255 are bytes; 256 is BOS, 257 EOS, and CONTROL are control tokens that have text. What was asked for is in
`requests`; how many streams are unfinished is `running`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from errors import EmptyPrompt, EngineFailed, InvalidInput, InvalidToken, ModelClosed, NoModelLoaded
from loaders.base import Alternative, Finish, Model, QueueEntry, Report, Request, Token
from loaders.params import LoadOptions

BOS, EOS = 256, 257
CONTROL: Mapping[int, str] = {256: "<s>", 257: "</s>", 258: "<|im_start|>", 259: "<|im_end|>"}
_FIRST_PIECE = 260  # ids from here on are the scripted pieces that are longer than a byte

Reply = str | Sequence[str | bytes]


class ByteTokenizer:
    """One token per byte, except for control tokens; counts how often and how much it was asked to encode."""

    bos_token = "<s>"
    eos_token = "</s>"
    end_ids = frozenset({EOS})
    control = frozenset(CONTROL.values())
    special_ids = frozenset(CONTROL)

    def __init__(self, chat_template: str | None = None, adds_bos: bool = True) -> None:
        self.chat_template = chat_template
        self.adds_bos = adds_bos
        self.n_vocab = 100_000
        self.closed = False
        self.calls = 0
        self.encoded = 0  # characters, over all calls
        self._ids = {text: token for token, text in CONTROL.items()}
        self._control = re.compile("(" + "|".join(re.escape(text) for text in CONTROL.values()) + ")")

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        self._check()
        self.calls += 1
        self.encoded += len(text)
        ids = [BOS] if add_bos and self.adds_bos else []
        try:
            for part in self._control.split(text) if special else [text]:
                ids.extend([self._ids[part]] if special and part in self._ids else part.encode())
        except UnicodeEncodeError:
            raise InvalidInput("The text holds lone surrogate (a lone surrogate).") from None
        return ids

    def piece(self, token: int, *, special: bool = False) -> bytes:
        self._check()
        if not 0 <= token < self.n_vocab:
            raise InvalidToken(token, self.n_vocab)
        if token in CONTROL:
            return CONTROL[token].encode() if special else b""
        return bytes([token]) if token < 256 else b"?"

    def is_special(self, token: int) -> bool:
        self._check()
        return token in CONTROL

    def _check(self) -> None:
        if self.closed:
            raise ModelClosed


class FakeStream:
    """The reply to one request."""

    def __init__(self, model: FakeModel, request: Request, tokens: Sequence[Token]) -> None:
        self.report = Report(prompt_tokens=len(request.ids), reuse_reason="a fake reuses nothing")
        self.ended = False
        self._asked = time.monotonic()
        self._model = model
        self._request = request
        self._tokens = iter(tokens)

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        if self.ended:
            raise StopIteration
        model, report = self._model, self.report
        if report.seed < 0:
            report.queued_seconds = max(1e-9, time.monotonic() - self._asked)
            report.seed = self._request.params.seed if self._request.params.seed >= 0 else 4711
        if model.hold_after is not None and report.new_tokens >= model.hold_after:
            model.holding.set()
            while not (self._request.cancel.is_set() or model.closed or model.release.is_set()):
                time.sleep(0.001)
        if model.closed:
            self._end(None)
            raise ModelClosed
        if model.delay:
            self._request.cancel.wait(model.delay)
        if self._request.cancel.is_set():
            self._end(Finish.CANCELLED)
            raise StopIteration
        if model.fail_after is not None and report.new_tokens >= model.fail_after:
            self._end(None)
            raise EngineFailed("it was told to fail.")
        if report.new_tokens >= self._request.max_tokens:
            self._end(Finish.LENGTH)
            raise StopIteration
        token = next(self._tokens, None)
        if token is None:
            self._end(Finish.STOP)
            raise StopIteration
        report.new_tokens += 1
        report.decode_seconds = time.monotonic() - self._asked
        return token

    def _end(self, finish: Finish | None) -> None:
        self.ended = True
        self.report.finish = finish


class FakeModel(Model):
    """See the top of this file. Everything may be changed between two requests."""

    loader = "fake"

    def __init__(
        self,
        reply: Reply | Callable[[Request], Reply] = "Paris.",
        *,
        delay: float = 0.0,
        fail_after: int | None = None,
        hold_after: int | None = None,
        context_length: int = 4096,
        chat_template: str | None = None,
        adds_bos: bool = True,
        unsupported: Mapping[str, str] | None = None,
        logits: Mapping[int, float] | None = None,
        name: str = "fake",
    ) -> None:
        self.name = name
        self.tokenizer: ByteTokenizer = ByteTokenizer(chat_template, adds_bos)
        self.context_length = context_length
        self.options = LoadOptions()
        self.unsupported = dict(unsupported or {})
        self.reply = reply
        self.logits = logits
        self.delay = delay
        self.fail_after = fail_after
        self.hold_after = hold_after
        self.holding = threading.Event()  # set as soon as a stream is held
        self.release = threading.Event()
        self.closed = False
        self.requests: list[Request] = []
        self.forgotten: list[str] = []  # labels
        self.warm: set[str] = set()  # labels
        self.streams: list[FakeStream] = []

    def generate(self, request: Request) -> FakeStream:
        if self.closed:
            raise ModelClosed
        if not request.ids:
            raise EmptyPrompt
        reply = self.reply(request) if callable(self.reply) else self.reply
        stream = FakeStream(self, request, self._tokens(reply, request.alternatives))
        self.requests.append(request)
        self.streams.append(stream)
        return stream

    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        """`logits` if they were set (by id; 0 elsewhere), otherwise all weight on the first token of the reply."""
        if self.closed:
            raise ModelClosed
        logits = np.zeros(self.tokenizer.n_vocab, np.float32)
        reply = self.reply(request) if callable(self.reply) else self.reply
        scripted = self.logits if self.logits is not None else {self._tokens(reply, None)[0].id: 10.0}
        for token, value in scripted.items():
            logits[token] = value
        return logits

    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        """Every token has the same probability."""
        if self.closed:
            raise ModelClosed
        return np.full(max(0, len(ids) - 1 - start), -np.log(self.tokenizer.n_vocab), np.float32)

    def queue(self) -> list[QueueEntry]:
        """The unfinished requests; one without any token yet is waiting."""
        pairs = zip(self.streams, self.requests, strict=True)
        live = [(s, r) for s, r in pairs if not s.ended and not r.cancel.is_set()]
        live.sort(key=lambda pair: not pair[0].report.new_tokens)
        started = sum(s.report.new_tokens > 0 for s, _ in live)
        return [
            QueueEntry(r.id, r.label, max(0, i + 1 - started), len(r.ids), s.report.new_tokens, 0.0, r.cancel)
            for i, (s, r) in enumerate(live)
        ]

    def forget(self, label: str) -> None:
        self.forgotten.append(label)
        self.warm.discard(label)

    def warm_labels(self) -> frozenset[str]:
        return frozenset(self.warm)

    def close(self) -> None:
        self.closed = self.tokenizer.closed = True

    @property
    def running(self) -> int:
        """How many streams are unfinished."""
        pairs = zip(self.streams, self.requests, strict=True)
        return sum(not stream.ended and not request.cancel.is_set() for stream, request in pairs)

    @property
    def prompt(self) -> str:
        """The text of the last request's prompt, control tokens included."""
        ids = self.requests[-1].ids
        return b"".join(self.tokenizer.piece(token, special=True) for token in ids).decode()

    def _tokens(self, reply: Reply, alternatives: int | None) -> list[Token]:
        if isinstance(reply, str):
            pieces: list[bytes] = [bytes([byte]) for byte in reply.encode()]
        else:
            pieces = [piece.encode() if isinstance(piece, str) else piece for piece in reply]
        return [self._token(place, piece, alternatives) for place, piece in enumerate(pieces)]

    def _token(self, place: int, piece: bytes, alternatives: int | None) -> Token:
        control = next((token for token, text in CONTROL.items() if text.encode() == piece), None)
        token = control if control is not None else piece[0] if len(piece) == 1 else _FIRST_PIECE + place
        if alternatives is None:
            return Token(token, piece)
        others = tuple(Alternative(rank, bytes([rank]), -0.1 - rank) for rank in range(alternatives))
        return Token(token, piece, -0.1, others)


class FakeModels:
    """What a Generator gets the model from: `current()`, which raises if there is none."""

    def __init__(self, model: Model | None) -> None:
        self.loaded = model

    def current(self) -> Model:
        if self.loaded is None:
            raise NoModelLoaded
        return self.loaded

    def forget(self, label: str) -> None:
        if self.loaded:
            self.loaded.forget(label)
