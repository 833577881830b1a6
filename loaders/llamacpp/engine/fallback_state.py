"""Goes back in a reply whose tokens are held back because a banned string may have begun.

A cache of plain attention is cut. A recurrent state cannot be: a copy of it is made when tokens begin to be held, and
those after it are read again. Without a copy the whole text is. It must not know why a reply goes back.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from loaders.llamacpp.library import C

if TYPE_CHECKING:
    from loaders.llamacpp.engine.batch_request import BatchRequest
    from loaders.llamacpp.engine.sequence_pool import SequencePool
    from loaders.llamacpp.engine.sequence_slot import SequenceSlot
    from loaders.llamacpp.native import LlamaContext

_PARTIAL = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: only what cannot be cut


@dataclass(frozen=True, slots=True)
class FallbackState:
    """For each branch the number of tokens, and the part of its state that cannot be cut."""

    branches: tuple[tuple[int, npt.NDArray[np.uint8]], ...]


def keep(context: LlamaContext, run: BatchRequest) -> None:
    """After each token: copy the state when tokens begin to be held, and drop the copy when none are held any more."""
    if not run.sampler.held:
        run.fallback = None
    elif run.fallback is None and not context.can_cut and all(branch.sequence for branch in run.branches):
        run.fallback = FallbackState(
            tuple((len(each.sequence.ids), _save(context, each.sequence)) for each in run.branches if each.sequence)
        )


def go_back(context: LlamaContext, sequences: SequencePool, run: BatchRequest, count: int) -> None:
    """Remove the last `count` tokens of all branches."""
    for number, branch in enumerate(run.branches):
        del branch.ids[-count:]
        sequence = branch.sequence
        if sequence is None or len(sequence.ids) <= len(branch.ids):
            continue
        if run.fallback and run.fallback.branches[number][0] <= len(branch.ids):
            length, state = run.fallback.branches[number]
            if _restore(context, sequence, state) and context.forget(sequence.id, length):
                del sequence.ids[length:]
                continue
        sequences.take_back(sequence, len(sequence.ids) - len(branch.ids), begun=True)


def _save(context: LlamaContext, sequence: SequenceSlot) -> npt.NDArray[np.uint8]:
    size = int(C.llama_state_seq_get_size_ext(context.pointer, sequence.id, _PARTIAL))
    state = np.empty(size, np.uint8)
    C.llama_state_seq_get_data_ext(context.pointer, _bytes(state), size, sequence.id, _PARTIAL)
    return state


def _restore(context: LlamaContext, sequence: SequenceSlot, state: npt.NDArray[np.uint8]) -> bool:
    read = C.llama_state_seq_set_data_ext(context.pointer, _bytes(state), state.size, sequence.id, _PARTIAL)
    return int(read) == state.size


def _bytes(array: npt.NDArray[np.uint8]) -> ctypes.Array[ctypes.c_uint8]:
    pointer: ctypes.Array[ctypes.c_uint8] = array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))  # type: ignore[assignment]
    return pointer
