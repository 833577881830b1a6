"""Measures the perplexity of a model on a text: exp of the mean negative log-probability of its tokens, for any loader.

The text is split into windows that fit the context. Two methods: `stride` moves a window forward by that many tokens
and scores only new ones (Hugging Face's "fixed-length models" recipe, and the original's); `halves` uses adjacent
windows, begins each with the start token, and scores the second half of each (llama.cpp's llama-perplexity). This
module must not know where texts come from, or how results are stored.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from errors import Cancelled, InvalidInput, Unavailable, encode_utf8
from loaders.base import Model
from modules.generation.prompt_ids import encode_prompt

Way = Literal["stride", "halves"]

_LARGEST = 700  # nats: larger values overflow exp


@dataclass(frozen=True)
class WindowPlan:
    """How a text is split. `max_length` 0 is the model's whole context; `stride` is not used for halves."""

    stride: int = 512
    max_length: int = 0
    way: Way = "stride"


@dataclass(frozen=True)
class ScoredWindow:
    """Token ids to be read together, and from which of their log-probabilities on they count."""

    ids: Sequence[int]
    start: int  # the first index in `Model.score(ids)` that counts; it belongs to the token after it
    begin: int  # where the window begins in the text's ids


@dataclass
class PerplexityResult:
    """The progress. `surprise` is the negative natural-log probability of each scored token; `places` their
    positions.
    """

    model: str
    tokens: int  # of the text
    windows: int
    window: int  # tokens per window at most
    done: int = 0
    seconds: float = 0.0
    surprise: list[npt.NDArray[np.float32]] = field(default_factory=list)
    places: list[npt.NDArray[np.int64]] = field(default_factory=list)
    ids: Sequence[int] = ()

    @property
    def scored(self) -> int:
        """Tokens scored so far."""
        return sum(map(len, self.surprise))

    @property
    def perplexity(self) -> float:
        """exp(mean surprise); NaN before the first window."""
        total = sum(float(part.sum(dtype=np.float64)) for part in self.surprise)
        mean = total / self.scored if self.scored else math.nan
        return math.exp(mean) if not mean > _LARGEST else math.inf

    @property
    def error(self) -> float:
        """The standard error of the perplexity, from the spread of the tokens (as in llama-perplexity)."""
        if self.scored < 2:
            return math.nan
        values = np.concatenate(self.surprise).astype(np.float64)
        return float(values.std(ddof=1) / math.sqrt(len(values)) * self.perplexity)

    @property
    def seconds_left(self) -> float:
        """Estimated from the finished windows; 0 before the first."""
        return self.seconds / self.done * (self.windows - self.done) if self.done else 0.0


def make_windows(ids: Sequence[int], plan: WindowPlan, context: int, start: int | None = None) -> list[ScoredWindow]:
    """The windows of a text. `start` is the id that begins each window of halves, if the model has one.

    Raises: InvalidInput.
    """
    length = min(plan.max_length or context, context)
    if length < 2:
        raise InvalidInput("max_length must be at least 2 tokens.")
    if plan.way == "halves":
        return _halves(ids, length, start)
    if plan.stride < 1:
        raise InvalidInput("stride must be at least 1 token.")
    found: list[ScoredWindow] = []
    scored = 0
    for begin in range(0, max(len(ids), 1), min(plan.stride, length)):
        end = min(begin + length, len(ids))
        # the token at position p of the text is predicted at position p - begin - 1 of the window's scores
        first = max(scored - begin - 1, 0)
        if end - begin > 1:
            found.append(ScoredWindow(ids[begin:end], first, begin))
        scored = end
        if end == len(ids):
            break
    if not found:
        raise InvalidInput("The text has fewer than 2 tokens, which is too short.")
    return found


def _halves(ids: Sequence[int], length: int, start: int | None) -> list[ScoredWindow]:
    count = len(ids) // length
    if count < 1:
        raise InvalidInput(
            f"The text has {len(ids):,} tokens, but a window needs {length:,}. Choose a smaller max_length."
        )
    found = []
    for begin in range(0, count * length, length):
        chunk = list(ids[begin : begin + length])
        if start is not None:
            chunk[0] = start
        found.append(ScoredWindow(chunk, length // 2, begin))
    return found


def measure_perplexity(
    model: Model, text: str, plan: WindowPlan | None = None, cancel: threading.Event | None = None
) -> Iterator[PerplexityResult]:
    """Read the text window by window and yield the same object after each.

    Raises: InvalidInput, ModelClosed, Unavailable (the model returned NaN), Cancelled.
    """
    plan, cancel = plan or WindowPlan(), cancel or threading.Event()
    encode_utf8(text)
    tokenizer = model.tokenizer
    ids = encode_prompt(tokenizer, text, add_bos=True)
    bos = tokenizer.encode("", add_bos=True, special=True)[:1]
    cut = make_windows(ids, plan, model.context_length, bos[0] if bos else None)
    length = min(plan.max_length or model.context_length, model.context_length)
    result = PerplexityResult(model.name, len(ids), len(cut), length, ids=ids)
    began = time.monotonic()
    for window in cut:
        if cancel.is_set():
            raise Cancelled
        scores = model.score(window.ids, cancel, window.start)
        if not np.isfinite(scores).all():
            raise Unavailable(
                f"{model.name} returns NaN from token {window.begin + 1:,} on: its weights are damaged, or it was "
                "loaded with too little precision for this text."
            )
        result.surprise.append(-scores)
        result.places.append(np.arange(len(scores)) + window.begin + window.start + 1)
        result.done += 1
        result.seconds = time.monotonic() - began
        yield result
