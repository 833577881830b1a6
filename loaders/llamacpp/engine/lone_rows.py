"""Whether a row that is computed alone gets the same logits as beside others.

The CPU multiplies a single row by other kernels than several, for some types of weights (F32, F16, BF16): they add in
another order. Attention with the flash kernel does so for a single row once the cache is long. Where replies must not
depend on whether drafts are checked, a lone row is then computed beside a second one: see LlamaContext.paired_from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # this imports llama_cpp
    from loaders.llamacpp.native import LlamaContext

#: The flash kernel divides the cache among threads for a lone row when llama.cpp counts at least 512 cells: it counts
#: in blocks of 256, so from this position on (ggml-cpu/ops.cpp, use_split_kv_path).
SPLIT_FROM = 256
_TOKENS = (1, 2, 3)


def first_position(context: LlamaContext, *, flash: bool) -> int | None:
    """From which position on a lone row must be computed beside another one; None if never.

    `flash`: the context uses the flash kernel. The context is empty before and after.
    """
    if not context.can_cut:
        return None
    try:
        alone = _logits(context, 1)
        beside = _logits(context, 2)
    finally:
        context.clear()
    if alone is None or beside is None:
        return None
    if not np.array_equal(alone, beside):
        return 0
    return SPLIT_FROM if flash else None


def _logits(context: LlamaContext, rows: int) -> np.ndarray | None:
    """Those of the token after `_TOKENS`, in a step of this many rows; None if llama.cpp fails."""
    from loaders.llamacpp.batch import LlamaBatch

    batch = LlamaBatch(max(len(_TOKENS), rows))
    context.clear(data=False)
    batch.add(_TOKENS, 0, 0, last=True, all_rows=False)
    if context.decode(batch):
        return None
    batch.clear()
    batch.add([_TOKENS[0]] * rows, len(_TOKENS), 0, last=True, all_rows=True)
    return None if context.decode(batch) else context.logits(0).copy()
