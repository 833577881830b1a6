"""Decodes two sequences together without paged attention: guidance if flash-attn is not installed.

exllamav2 reads a batch from one cache at the same columns in every row. The two prompts differ in length, so the
shorter row has a gap between its prompt and the reply: an input mask hides the gap, and a position offset lets the row
count on as if there were none. So each prompt stays at its columns, is read alone (with plain causal attention), and is
found there in the next turn.

The cache of two rows is created at the first guided request and kept. This module must not know of requests or
sampling.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from loaders.exllamav2.native import ExLlamaV2Weights, make_cache
from loaders.exllamav2.options import Bits
from loaders.prefix import common_prefix

_HIDDEN = -65504.0  # the lowest float16


class GuidancePair:
    """A cache of two rows and the contents of its columns."""

    def __init__(self, weights: ExLlamaV2Weights, kind: Bits) -> None:
        """Raises: torch's out-of-memory error."""
        self._weights = weights
        self._cache = make_cache(weights.model, kind, weights.context_length, rows=2)
        self._views = [_row(self._cache, row) for row in range(2)]
        self._held: list[list[int]] = [[], []]  # the tokens of each row's columns, without the gap

    def forget(self) -> None:
        """Discard the cached tokens: they were computed with other adapters."""
        self._held = [[], []]

    def read(self, prompts: Sequence[Sequence[int]], loras: Any) -> Iterator[int]:
        """Read all but the last token of both prompts, in chunks; yields the number of cached tokens of the first."""
        reused = [common_prefix(held, list(ids)[:-1]) for held, ids in zip(self._held, prompts, strict=True)]
        yield reused[0]
        size = self._weights.config.max_input_len
        for view, held, ids, start in zip(self._views, self._held, prompts, reused, strict=True):
            del held[start:]
            for at in range(start, len(ids) - 1, size):
                piece = list(ids[at : min(at + size, len(ids) - 1)])
                view.current_seq_len = at
                self._weights.model.forward(
                    torch.tensor([piece], dtype=torch.long), view, preprocess_only=True, loras=loras
                )
                held.extend(piece)
                yield reused[0]

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """Both prompts are read: the reply starts at the column after the longer one."""
        lengths = [len(ids) - 1 for ids in prompts]
        column = max(lengths)
        self._gaps = [column - length for length in lengths]
        self._column = column
        self._offsets: Any = None
        self._mask: Any = None
        if any(self._gaps):
            mask = torch.zeros((2, column), dtype=torch.half)
            for row, length in enumerate(lengths):
                mask[row, length:] = _HIDDEN
            self._mask = mask.to(self._cache.key_states[0].device)
            self._offsets = torch.tensor([[-gap] for gap in self._gaps], dtype=torch.int)

    def step(self, tokens: Sequence[int], loras: Any) -> npt.NDArray[np.float32]:
        """Decode one token for each row; the logits that follow, shape (2, padded vocabulary)."""
        self._cache.current_seq_len = self._column
        logits = self._weights.model.forward(
            torch.tensor([[token] for token in tokens], dtype=torch.long),
            self._cache,
            input_mask=self._mask,
            position_offsets=self._offsets,
            loras=loras,
        )
        for held, gap, token in zip(self._held, self._gaps, tokens, strict=True):
            if not gap:
                held.append(token)
        self._column += 1
        rows: npt.NDArray[np.float32] = logits[:, -1, :].float().cpu().numpy()
        return rows

    def go_back(self, count: int) -> None:
        """Drop the last tokens of both rows."""
        self._column -= count
        for held, gap in zip(self._held, self._gaps, strict=True):
            if not gap:
                del held[len(held) - count :]


def _row(cache: Any, row: int) -> Any:
    """One row of a cache as a separate cache, in the same memory."""
    view = copy.copy(cache)
    view.batch_size = 1
    names = ("key_states", "value_states", "key_scales", "value_scales")
    for name in names if cache.has_scales else names[:2]:
        setattr(view, name, [tensor[row : row + 1] for tensor in getattr(cache, name)])
    return view
