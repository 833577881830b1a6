"""Token ids and logits as a script wants them: tensors where it imports torch, else NumPy arrays; both of shape (1, n).

torch itself is never imported here: a script that uses it has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.logits import Floats
from modules.extensions.context import HookContext, using
from modules.extensions.extension import Extension


def array_for(extension: Extension, values: Sequence[int] | Floats) -> Any:
    """Token ids, or scores, with a first axis of length 1."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values, np.int64)
    row = array.reshape(1, -1)
    return sys.modules["torch"].from_numpy(row) if extension.uses_torch else row


def ids_from(made: Any) -> list[int]:
    """Token ids from whatever a script returned: a tensor, an array, a list; with or without a first axis."""
    return [int(each) for each in np.asarray(made).reshape(-1).tolist()]


class Processor:
    """A logits processor of a script's: `loaders.base.LogitsProcessor`. What it raises switches it off."""

    def __init__(self, extension: Extension, process: Any, context: HookContext) -> None:
        self._extension = extension
        self._process = extension.guarded("its logits processor", self._run, context.notes)
        self._given = process
        self._words = context.words

    def __call__(self, ids: Sequence[int], logits: Floats) -> Floats:
        made = self._process(ids, logits)
        return logits if made is None else made

    def _run(self, ids: Sequence[int], logits: Floats) -> Floats:
        with using(self._words):
            made = self._given(array_for(self._extension, ids), array_for(self._extension, logits))
        if made is None:  # it has changed what it got, or only looked
            return logits
        scores = np.asarray(made, np.float32).reshape(-1)
        if scores.shape != logits.shape:
            raise ValueError(f"it returned {scores.size:,} scores, and there are {logits.size:,} tokens")
        return scores
