"""The contract between loaders and the application: what a loader, a model, a request and a token are.

Everything above uses models through these types only and never asks for a loader's name. Nothing here knows of a user
interface, HTTP, chats or templates, and nothing imports an engine.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from errors import Unsupported
from loaders.cancel import CancelEvent
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.params import LoadOptions, SamplingParams

#: What a model can do besides the knobs: each may be a key of its `unsupported`.
ABILITIES: tuple[str, ...] = ("tokens", "logits", "score", "embeddings", "lora", "processors", "work_ahead")

#: Called while loading with the fraction done (0 to 1) and the current step; returning False cancels the load.
Progress = Callable[[float, str], bool]


@dataclass(frozen=True, slots=True)
class Alternative:
    """An alternative at a position: its token id, its bytes and its natural-log probability before sampling."""

    id: int
    data: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply. `data` may be an incomplete part of UTF-8; `logprob` and `alternatives` on request."""

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
    """Statistics and warnings of a reply; complete when its stream has ended. Seconds are wall time."""

    prompt_tokens: int = 0
    reused_tokens: int = 0  # prompt tokens that were cached
    reuse_reason: str = ""  # where they came from, or why there are none
    new_tokens: int = 0
    prompt_seconds: float = 0.0  # from leaving the queue to the first token
    decode_seconds: float = 0.0  # from the first token to the last
    queued_seconds: float = 0.0
    seed: int = -1  # the seed that was used, also if it was random
    finish: Finish | None = None
    replaced: int = 0  # tokens that were replaced because a banned string began with them
    taken_back: int = 0  # tokens that had been computed and were removed for that reason
    drafted_tokens: int = 0  # guessed tokens that were checked
    accepted_tokens: int = 0  # those of them that were right, each of which saved a step
    ahead_tokens: int = 0  # reused tokens that a yielding request had read
    read_tokens: int = 0  # prompt tokens that were computed, also if it was cancelled
    warnings: list[str] = field(default_factory=list)


class LogitsProcessor(Protocol):
    """An external function that changes logits before the samplers see them."""

    def __call__(self, ids: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the new logits, shape (n_vocab,); `ids` are the tokens so far, prompt first. Must not raise."""
        ...


@runtime_checkable
class TokenForcer(Protocol):
    """A processor that needs no logits: it sometimes forces a token. As a LogitsProcessor it does the same by itself;
    an engine in another process asks it for the token, and only when there may be one.
    """

    #: To be called, from any thread, if it must be asked sooner than `patience` says.
    wake: Callable[[], None]

    def read(self, ids: Sequence[int]) -> None:
        """Process the tokens so far, prompt first."""
        ...

    def forced(self, ids: Sequence[int]) -> int | None:
        """The forced next token, None for the model's own choice. Must not raise."""
        ...

    def patience(self) -> int:
        """After how many more tokens it must be asked: 0 for the next one, -1 for never."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A request to generate text. Token ids are the model's own; `max_tokens` counts new tokens.

    `cancel` may be set by anyone at any time: the reply ends within one token. `logit_bias` is added to the logits.
    `alternatives` requests that many alternatives per token (None: no log-probabilities at all). `processors` change
    the logits of each token, in order.
    """

    ids: Sequence[int]
    params: SamplingParams = SamplingParams()
    max_tokens: int = 512
    negative_ids: Sequence[int] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    alternatives: int | None = None
    cancel: threading.Event = field(default_factory=CancelEvent)
    processors: Sequence[LogitsProcessor] = ()
    begun: bytes = b""  # the text that the reply must begin with, which is not part of what its reader gets
    label: str = ""  # who sent it, for the queue view
    lasting: bool = False  # its state may be kept on disk, for a later request that begins like it
    yields: bool = False  # it runs only while no other request runs or waits, and is cancelled when one arrives
    id: int = field(default_factory=itertools.count(1).__next__)  # in this run of the program


class TokenStream(Protocol):
    """An iterator of the reply's tokens, with a report that is complete at its end."""

    report: Report

    def __iter__(self) -> Iterator[Token]: ...

    def __next__(self) -> Token: ...


class Tokenizer(Protocol):
    """Converts text to token ids and back with the model's own vocabulary."""

    n_vocab: int
    bos_token: str
    eos_token: str
    chat_template: str | None
    end_ids: frozenset[int]  # the tokens that end a reply
    control: frozenset[str]  # the names of control tokens
    special_ids: frozenset[int]  # and their ids

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        """The ids of a text. `special`: control tokens written out in the text become those tokens."""
        ...

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; a control token has none unless `special`. Raises: InvalidToken."""
        ...

    def is_special(self, token: int) -> bool:
        """Whether the token is a control token, not text."""
        ...


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One request in the queue view. `place` 0 is running; 1 is next. Speeds in tokens per second."""

    id: int
    label: str
    place: int
    prompt_tokens: int
    new_tokens: int
    tokens_per_second: float
    cancel: threading.Event


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter and its scale: 1 as trained, 0 no effect. `version` tells its files from those that replace them."""

    path: Path
    scale: float = 1.0
    version: tuple[object, ...] = ()

    def as_stored(self) -> Lora:
        """With the version of what is on disk now: loaders apply these, so that a newly trained file is not mistaken
        for the one that is loaded. Missing files have none, and cannot be loaded.
        """
        files = sorted(self.path.glob("adapter_*")) if self.path.is_dir() else [self.path]
        try:
            found = [(each.name, each.stat()) for each in files]
        except OSError:
            return replace(self, version=())
        return replace(self, version=tuple((name, about.st_size, about.st_mtime_ns) for name, about in found))


class Model(ABC):
    """A loaded model. Its methods may be called from several threads at once."""

    name: str
    loader: str
    #: Without the ability `tokens` a stand-in: its ids are not the model's, and their number is an estimate.
    tokenizer: Tokenizer
    context_length: int
    #: Bytes in memory, weights and cache together; 0 if unknown.
    memory: int = 0
    options: LoadOptions
    #: What was decided while loading, each with its reason: ("33 of 33 layers on the GPU", "5.9 of 7.4 GB free").
    notes: Sequence[str] = ()
    #: Knobs and features that this model cannot honour, each with the reason in one sentence.
    unsupported: Mapping[str, str] = {}
    #: Abilities that are there in part only, each with the sentence to show with their results.
    caveats: Mapping[str, str] = {}
    #: Where its chat template comes from: "from ...".
    template_place: str = "the model's folder"
    #: How to get a larger context, as a clause.
    larger_context: str = "load the model with a larger n_ctx"
    #: The active adapters, in the order in which they were given.
    loras: Sequence[Lora] = ()

    def supports(self, name: str) -> bool:
        """Whether this knob or feature is supported; if not, `unsupported[name]` says why."""
        return name not in self.unsupported

    def require(self, ability: str) -> None:
        """Raises: Unsupported, with the reason, if it is not supported."""
        if not self.supports(ability):
            raise Unsupported(self.unsupported[ability])

    @abstractmethod
    def generate(self, request: Request) -> TokenStream:
        """Start generating; the stream may be read by any one thread. Raises: UserError for a bad request."""

    def next_logits(self, request: Request) -> npt.NDArray[np.float32]:
        """The raw logits after the request's prompt (with guidance, if requested), shape (n_vocab,).

        Raises: UserError, as `generate` does; Unsupported.
        """
        del request
        raise Unsupported(self.unsupported.get("logits", f"{self.loader} does not provide logits."))

    def grammar_start(self, grammar: str) -> npt.NDArray[np.bool_]:
        """For every token whether a text of this GBNF grammar may begin with it, shape (n_vocab,).

        Raises: InvalidGrammar, Unsupported, ModelClosed.
        """
        del grammar
        raise Unsupported(self.unsupported.get("grammar_string", f"{self.loader} does not support grammars."))

    def score(
        self, ids: Sequence[int], cancel: threading.Event | None = None, start: int = 0
    ) -> npt.NDArray[np.float32]:
        """The natural-log probability of each token but the first, given those before it; shape (len(ids) - 1,).

        `start` skips that many of them, and the time to compute them. Raises: UserError, as `generate` does;
        EngineFailed when cancelled; Unsupported.
        """
        del ids, cancel, start
        raise Unsupported(
            self.unsupported.get("score", f"{self.loader} does not provide log-probabilities of prompts.")
        )

    def embed(self, texts: Sequence[Sequence[int]], cancel: threading.Event | None = None) -> npt.NDArray[np.float32]:
        """One normalized vector per text, shape (texts, dimensions).

        Raises: Unsupported, PromptTooLong, ModelClosed, Cancelled.
        """
        del texts, cancel
        raise Unsupported(self.unsupported.get("embeddings", f"{self.loader} does not support embeddings."))

    def set_loras(self, loras: Sequence[Lora]) -> None:
        """Apply exactly these adapters from the next request on; without any, the output is exactly the base model's.
        Cached sequences of other adapters are not reused.

        Raises: UserError (not an adapter, or not for this model), and nothing changes then.
        """
        if loras:
            raise Unsupported(self.unsupported.get("lora", f"{self.loader} does not support LoRA adapters."))

    def forget(self, label: str) -> None:
        """Keep nothing that was computed for requests of this label (loaders/labels.py), in memory or on disk.

        Their results stay the same, only later. Returns after the running step; what a request of this label still
        uses goes when that ends. From any thread; does not raise.
        """
        del label

    def warm_labels(self) -> frozenset[str]:
        """The labels of requests whose state is kept: one that continues them begins without reading them again."""
        return frozenset()

    def warning(self) -> str:
        """A short warning when its device is almost full, else empty."""
        return ""

    @property
    def saving(self) -> bool:
        """Whether it is being closed, and still writes what it keeps for later."""
        return False

    def queue(self) -> Sequence[QueueEntry]:
        """The running and waiting requests, in order of arrival."""
        return ()

    def on_lost(self, lost: Callable[[str], None]) -> None:
        """Call this once, from any thread, with the reason as a clause, if the model ends without being closed.

        A model in this process never does.
        """
        del lost

    @abstractmethod
    def close(self) -> None:
        """End all requests and free all memory. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Loader(ABC):
    """Turns files on disk into a running model. A class, never instantiated; importing it imports no engine."""

    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[LoadOptions]]
    #: Whether the model computes here, so that a process of its own keeps its crashes away from the program.
    computes: ClassVar[bool] = True

    @classmethod
    def isolates(cls, options: LoadOptions) -> bool:
        """Whether with these options the model must be in a process of its own, because what it depends on may end it
        at any time.
        """
        del options
        return False

    @classmethod
    @abstractmethod
    def accepts(cls, path: Path) -> int:
        """How well this loader suits the path, 0 (not at all) to 100, by file names and headers only."""

    @classmethod
    def refuses(cls, path: Path) -> str | None:
        """Why it cannot load this model although the files are of its kind, as the end of a sentence; None
        otherwise.
        """
        del path
        return None

    @classmethod
    def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
        """Refuse files and options that cannot be loaded, as far as that can be known while another model takes the
        memory: within a second or so, without keeping the weights in memory. `load` refuses them as well.

        Raises: UserError (a damaged file, invalid options, cancelled).
        """
        del path, options, progress

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """A sentence that says what must be installed and how, or None if it can run."""

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast | None:
        """The memory that it will take with these options; None if unknown. May take a second.

        Raises: UserError, for a file that cannot be loaded.
        """
        del path, options
        return None

    @classmethod
    def quick_forecast(cls, path: Path, options: LoadOptions, cards: Sequence[Gpu]) -> Forecast | None:
        """As `forecast`, roughly, in milliseconds: for the badges of hundreds of files. It reads only the file's
        header; `cards` are the GPUs. Raises: UserError.
        """
        del path, options, cards
        return None

    @classmethod
    def forget(cls, label: str) -> None:
        """Delete what models of this loader have kept on disk for this label, also those that are not loaded now."""
        del label

    @classmethod
    @abstractmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Load the model. Raises: UserError (a damaged file, too little memory, cancelled)."""
