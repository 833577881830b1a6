"""Replies with the logits that they were chosen from, and whether two of them are equal except for rounding.

llama.cpp and torch add numbers in an order that depends on what is read together, so that two candidates which are
almost equally likely may change places. What was read wrongly differs by far more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.base import Model, Request
from loaders.params import SamplingParams
from loaders.prefix import common_prefix

_GREEDY = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)


@dataclass(frozen=True)
class Reply:
    """Tokens, and the logits of each, shape (n_vocab,)."""

    tokens: list[int]
    logits: list[npt.NDArray[np.float32]] = field(repr=False)
    reused: int
    reason: str


def reply(model: Model, prompt: Sequence[int], count: int, **params: Any) -> Reply:
    """The likeliest tokens after a prompt."""
    seen: list[npt.NDArray[np.float32]] = []

    def look(_: Sequence[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        seen.append(np.array(logits, np.float32).reshape(-1))
        return logits

    knobs = _GREEDY.model_copy(update=params) if params else _GREEDY
    stream = model.generate(Request(list(prompt), knobs, count, processors=[look]))
    tokens = [token.id for token in stream]
    return Reply(tokens, seen, stream.report.reused_tokens, stream.report.reuse_reason)


def difference(warm: Reply, cold: Reply) -> float:
    """The largest difference of a logit as far as both say the same, in standard deviations of the cold logits.

    The place where they part counts: there both chose from the same beginning.
    """
    same = common_prefix(warm.tokens, cold.tokens)
    pairs = zip(warm.logits[: same + 1], cold.logits[: same + 1], strict=True)
    return max((float(np.abs(a - b).max() / b[np.isfinite(b)].std()) for a, b in map(_finite, pairs)), default=0.0)


def _finite(pair: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]) -> tuple[Any, Any]:
    a, b = pair
    known = np.isfinite(a) & np.isfinite(b)
    assert known.any(), "no logit is a number"
    assert (np.isfinite(a) == np.isfinite(b)).all(), "other logits are no numbers"
    return a[known], b[known]
