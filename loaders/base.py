"""The contract of the ground floor: what a loader is, what a model is, what a request is, what comes back.

Everything above talks to models through these types alone and never asks for a loader's name. Nothing here knows of
a user interface, of HTTP, of chats or of templates; nothing here imports an engine.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from errors import Unsupported
from loaders.forecast import Forecast
from loaders.params import LoadOptions, SamplingParams

#: Called while loading with the fraction done (0 to 1) and what is being done; False asks the loader to give up.
Progress = Callable[[float, str], bool]


@dataclass(frozen=True, slots=True)
class Alternative:
    """A candidate for a place: its token id, its bytes and its natural-log probability before sampling."""

    id: int
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply. `data` may be an incomplete piece of UTF-8; `logprob` and `alternatives` on request."""

    id: int
    data: bytes
    logprob: float | None = None
    alternatives: tuple[Alternative, ...] = ()


class Finish(str, Enum):
    """Why a reply ended."""

    STOP = "stop"  # the model's end-of-generation token, or a stop condition
    LENGTH = "length"  # max_tokens reached, or the context is full
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Report:
    """What is to be said about a reply; complete when its stream has ended. Seconds are wall time."""

    prompt_tokens: int = 0
    reused_tokens: int = 0  # prompt tokens that were in the cache already
    reuse_reason: str = ""  # where they came from, or why there are none
    new_tokens: int = 0
    prompt_seconds: float = 0.0  # from leaving the queue to the first token
    decode_seconds: float = 0.0  # from the first token to the last
    queued_seconds: float = 0.0
    seed: int = -1  # the seed that was used, also when one was drawn
    finish: Finish | None = None
    warnings: list[str] = field(default_factory=list)


class LogitsProcessor(Protocol):
    """Something from outside that changes logits before the samplers see them."""

    def __call__(self, ids: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits in place of these, shape (n_vocab,); `ids` are the tokens so far, prompt first. Must not raise."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What to generate from. Token ids are the model's own; `max_tokens` counts new tokens.

    `cancel` may be set by anyone at any time: the reply ends within one token. `logit_bias` is added to the logits.
    `alternatives` asks for that many candidates per token (None: no log-probabilities at all). `processors` change
    the logits of each token, in their order.
    """

    ids: Sequence[int]
    params: SamplingParams = SamplingParams()
    max_tokens: int = 512
    negative_ids: Sequence[int] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    alternatives: int | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    processors: Sequence[LogitsProcessor] = ()
    label: str = ""  # who asked, for the queue's view
    id: int = field(default_factory=itertools.count(1).__next__)  # of this run of the program


class TokenStream(Protocol):
    """An iterator of the reply's tokens, with a report that is complete once it ends."""

    report: Report

    def __iter__(self) -> Iterator[Token]: ...

    def __next__(self) -> Token: ...


class Tokenizer(Protocol):
    """Text to token ids and back, as the model's own vocabulary has it."""

    n_vocab: int
    bos_token: str
    eos_token: str
    chat_template: str | None
    end_ids: frozenset[int]  # the tokens that end a reply
    control: frozenset[str]  # the names of control tokens

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """The ids of a text. `special`: control tokens written out in the text count as those tokens."""
        ...

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token has none unless `special`. Raises: InvalidToken."""
        ...

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token, not text."""
        ...


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One request as the queue's view shows it. `place` 0 is running; 1 is next. Speeds in tokens per second."""

    id: int
    label: str
    place: int
    prompt_tokens: int
    new_tokens: int
    tokens_per_second: float
    cancel: threading.Event


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter and how strongly it acts: 1 as it was trained, 0 not at all."""

    path: Path
    scale: float = 1.0


class Model(ABC):
    """A model in memory. Its methods may be called from several threads at once."""

    name: str
    loader: str
    tokenizer: Tokenizer
    context_length: int
    #: Bytes that it takes in memory, weights and cache together; 0 where that is not known.
    memory: int = 0
    options: LoadOptions
    #: What was decided while loading, each with its reason: ("33 of 33 layers on the GPU", "5.9 of 7.4 GB free").
    notes: Sequence[str] = ()
    #: Knobs and features that this model cannot honour, each with the reason in one sentence.
    unsupported: Mapping[str, str] = {}
    #: The adapters that act, in the order in which they were given.
    loras: Sequence[Lora] = ()

    def supports(self, name: str) -> bool:
        """Whether this knob or feature is honoured; if not, `unsupported[name]` says why."""
        return name not in self.unsupported

    @abstractmethod
    def generate(self, request: Request) -> TokenStream:
        """Start generating; the stream may be read by any one thread. Raises: UserError for a bad request."""

    @abstractmethod
    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        """The raw logits after the request's prompt (guidance mixed in, if asked for), shape (n_vocab,).

        Raises: UserError, as `generate` does.
        """

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        """For every token whether a text of this GBNF grammar may begin with it, shape (n_vocab,).

        Raises: InvalidGrammar, Unsupported, ModelClosed.
        """
        del grammar
        raise Unsupported(self.unsupported.get("grammar_string", f"{self.loader} cannot keep to a grammar."))

    @abstractmethod
    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        """The natural-log probability of each token but the first, given those before it; shape (len(ids) - 1,).

        `start` leaves the first so many of them out, and what they would have cost.

        Raises: UserError, as `generate` does; EngineFailed when cancelled.
        """

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        """A vector of length 1 for each of the texts' ids, shape (texts, dimensions).

        Raises: Unsupported, PromptTooLong, ModelClosed, Cancelled.
        """
        del texts, cancel
        raise Unsupported(self.unsupported.get("embeddings", f"{self.loader} cannot make embeddings."))

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Let these adapters act and no others, from the next request on; with none, the base model's exact output
        comes back. What was cached under other adapters is not reused.

        Raises: UserError (not an adapter, not of this model), and nothing has changed then.
        """
        if loras:
            raise Unsupported(self.unsupported.get("lora", f"{self.loader} cannot apply LoRA adapters."))

    def warning(self) -> str:
        """A few words when what it runs on is about to be full, else nothing."""
        return ""

    def queue(self) -> Sequence[QueueEntry]:
        """Who is running and who waits, first come first."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """End all requests and give all memory back. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Loader(ABC):
    """Turns files on disk into a running model. A class, never instantiated; importing it imports no engine."""

    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[LoadOptions]]

    @classmethod
    @abstractmethod
    def accepts(cls, path: Path) -> int:
        """How well this loader suits the path, 0 (not at all) to 100, from file names and headers alone."""

    @classmethod
    def refuses(cls, path: Path) -> str | None:
        """Why it takes no such model although the files are of its kind, as the end of a sentence; None otherwise."""
        del path
        return None

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """One sentence that names what has to be installed and how, or None when it can run."""

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast | None:
        """What it will take in memory with these options; None where that is not known. May take a second.

        Raises: UserError, for a file that cannot be loaded.
        """
        del path, options
        return None

    @classmethod
    @abstractmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Bring the model into memory. Raises: UserError (a broken file, too little memory, cancelled)."""
