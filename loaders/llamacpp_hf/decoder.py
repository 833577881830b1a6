"""A llama.cpp context as a decoder: each branch is one of its sequences."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from errors import EngineFailed
from loaders.hf_common.decoder import Decoder, DecodingStopped
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine.prompt_chunking import StepCost
from loaders.llamacpp.native import LlamaContext
from loaders.logits import Floats


class LlamaCppDecoder(Decoder):
    """The same decoding as the native loader's, one request at a time."""

    def __init__(self, context: LlamaContext, n_ctx: int, n_batch: int, branches: int) -> None:
        """`n_ctx` is for one sequence; all share the context's cells."""
        super().__init__()
        self._context = context
        self._batch = LlamaBatch(n_batch)
        self.n_ctx, self.cells = n_ctx, context.n_ctx
        self.n_vocab = context.n_vocab
        self.branches = branches
        self.piece = n_batch
        self.cuts = context.can_cut
        self.cost = StepCost()

    def _forward(self, branch: int, ids: Sequence[int], keep: int) -> Floats:
        found = np.empty((keep, self.n_vocab), np.float32)
        done, first = len(self.cached_ids(branch)), len(ids) - keep
        for at in range(0, len(ids), self.piece):
            end = min(at + self.piece, len(ids))
            plain = ids[at : max(min(first, end), at)]
            wanted = ids[at + len(plain) : end]
            self._decode(branch, plain, wanted, done + at)
            for row in range(len(wanted)):
                found[at + len(plain) + row - first] = self._context.logits(len(plain) + row)
        return found

    def _decode(self, branch: int, plain: Sequence[int], wanted: Sequence[int], position: int) -> None:
        """One step: tokens whose logits are not needed, then those whose logits are."""
        for room_made in (False, True):
            self._batch.clear()
            if plain:
                self._batch.add(plain, position, branch, last=False, all_rows=False)
            if wanted:
                self._batch.add(wanted, position + len(plain), branch, last=True, all_rows=True)
            started = time.monotonic()
            with self._context.stop.unless(self._go_on) if self._go_on else nullcontext():
                code = self._context.decode(self._batch)
            if code == 0:
                self.cost.note(self._batch.size, position + self._batch.size, time.monotonic() - started)
                return
            if code == 2:
                raise DecodingStopped
            self._context.forget(branch, position)
            if code != 1 or room_made or not self._make_room():
                break
        if code == 1:
            raise EngineFailed(
                "the context is full: the prompt, the negative prompt and the reply share it. Load the model with "
                "cfg_cache or a larger n_ctx."
            )
        raise EngineFailed(f"llama.cpp could not compute a step (code {code}). Try again.")

    def _make_room(self) -> bool:
        """Empty the branches that are not being read into; False when there are none."""
        idle = [branch for branch, held in self._held.items() if held and branch >= self.in_use]
        for branch in idle:
            self.truncate(branch, 0)
        return bool(idle)

    def _truncate(self, branch: int, length: int) -> bool:
        # a window's cells may have been given to another branch: what is left must be all that the next token needs
        return self._context.can_cut and self._context.forget(branch, length) and self._context.holds(branch, length)

    def _empty(self, branch: int) -> None:
        self._context.forget(branch)
