"""Banned strings on any model: what to ban so that a reply must go back, and whether it went on rightly.

It must not know of loaders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loaders.base import Model, Request
from loaders.params import SamplingParams

GREEDY = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)


def strings_of(model: Model, tokens: Sequence[int], *, length: int = 3, count: int = 3) -> list[str]:
    """Strings of several tokens each that stand in this reply."""
    found, free = [], 2
    for at in range(2, len(tokens) - length):
        data = b"".join(model.tokenizer.piece(token) for token in tokens[at : at + length])
        text = data.decode("utf-8", "ignore")
        if at >= free and text.encode() == data and len(text) >= length:
            found.append(text)
            free = at + length + 4
    return list(dict.fromkeys(found))[:count]


def not_printable(model: Model) -> list[int]:
    """The tokens that are not printable ASCII: models without training write bytes that are no text."""

    def prints(data: bytes) -> bool:
        return data != b"" and all(32 <= byte < 127 for byte in data)

    tokens = range(model.tokenizer.n_vocab)
    return [token for token in tokens if not prints(model.tokenizer.piece(token))]


def avoid(
    model: Model, prompt: Sequence[int], count: int, strings: Sequence[str], **more: Any
) -> tuple[list[int], Any]:
    """The reply's tokens without these strings, and its report. Neither the text nor any part streamed has one."""
    params = GREEDY.changed(banned_strings=json.dumps(list(strings)), **more)
    stream = model.generate(Request(list(prompt), params, count))
    tokens, text = [], b""
    for token in stream:
        tokens.append(token.id)
        text += token.data
        assert not any(each.lower() in text.decode("utf-8", "replace").lower() for each in strings)
    return tokens, stream.report


def unexplained(rows: npt.NDArray[np.float32], tokens: Sequence[int], ends: Sequence[int], tie: float) -> int:
    """How many tokens are not the likeliest ones, by more than `tie` standard deviations of the logits.

    `rows` are the logits that each was to be chosen from, shape (tokens, n_vocab).
    """
    rows = rows.copy()
    rows[:, list(ends)] = -np.inf
    spread = float(rows[np.isfinite(rows)].std())
    return sum(float(row.max() - row[token]) / spread > tie for row, token in zip(rows, tokens, strict=True))
