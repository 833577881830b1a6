"""Token ids and logits for scripts: tensors if the script imports torch, else NumPy arrays; both of shape (1, n).

torch itself is never imported here: a script that uses it has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.logits import Floats
from modules.extensions.context import HookContext, use_model_access
from modules.extensions.extension import Extension


def to_script_array(extension: Extension, values: Sequence[int] | Floats) -> Any:
    """Token ids or scores, with a first axis of length 1."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values, np.int64)
    row = array.reshape(1, -1)
    return sys.modules["torch"].from_numpy(row) if extension.uses_torch else row


def from_script_ids(made: Any) -> list[int]:
    """Token ids from whatever a script returned: a tensor, an array, a list; with or without a first axis."""
    return [int(each) for each in np.asarray(made).reshape(-1).tolist()]


class ScriptLogitsProcessor:
    """A script's logits processor: `loaders.base.LogitsProcessor`. If it raises, it is switched off."""

    def __init__(self, extension: Extension, process: Any, context: HookContext) -> None:
        self._extension = extension
        self._process = extension.guarded("its logits processor", self._run, context.notes)
        self._given = process
        self._words = context.words

    def __call__(self, ids: Sequence[int], logits: Floats) -> Floats:
        made = self._process(ids, logits)
        return logits if made is None else made

    def _run(self, ids: Sequence[int], logits: Floats) -> Floats:
        with use_model_access(self._words):
            made = self._given(to_script_array(self._extension, ids), to_script_array(self._extension, logits))
        if made is None:  # it may have changed the array in place
            return logits
        scores = np.asarray(made, np.float32).reshape(-1)
        if scores.shape != logits.shape:
            raise ValueError(f"it returned {scores.size:,} scores for {logits.size:,} tokens")
        return scores
