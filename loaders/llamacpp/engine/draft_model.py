"""A draft model in its own context: which texts it has read, and its logits for the next token.

Used by the engine's thread only. It must not know requests, or what becomes of a guess.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from loaders.labels import is_of
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.llamacpp.native import LlamaContext
from loaders.logits import Floats
from loaders.prefix import common_prefix

log = logging.getLogger(__name__)


class DraftModel:
    """Sequences that share the cells of one context. `n_vocab`: the number of token ids of the model it drafts for."""

    def __init__(self, context: LlamaContext, *, sequences: int, n_batch: int, n_vocab: int) -> None:
        self.n_ctx = context.n_ctx
        self.context = context
        self._batch = LlamaBatch(n_batch)
        self._slots = [SequenceSlot(number) for number in range(sequences)]
        self._n_vocab = n_vocab
        self._failed = False

    def take(self, ids: Sequence[int], label: str = "") -> SequenceSlot | None:
        """A free sequence, the one that holds most of these tokens; None if there is none. `label`: whose they are."""
        free = [slot for slot in self._slots if not slot.busy]
        if not free or self._failed:
            return None
        text = list(ids)
        best = max(free, key=lambda slot: (common_prefix(slot.ids, text), -slot.released))
        best.busy, best.label, best.doomed = True, label, False
        return best

    def release(self, slot: SequenceSlot) -> None:
        """Its text is over; what was read may be reused."""
        slot.busy = False
        slot.released = time.monotonic()
        if slot.doomed:
            self._cut(slot, 0)

    def forget(self, label: str) -> None:
        """Drop what was read for this label; what is in use goes when it is released."""
        for slot in self._slots:
            if is_of(slot.label, label):
                slot.doomed = slot.busy
                if not slot.busy:
                    self._cut(slot, 0)

    def follow(self, slot: SequenceSlot, ids: list[int]) -> int:
        """Drop what is not the beginning of `ids`; returns how many of them are still to be read, at least one."""
        same = min(common_prefix(slot.ids, ids), len(ids) - 1)
        if same < len(slot.ids):
            self._cut(slot, same)
        return len(ids) - len(slot.ids)

    def read(self, slot: SequenceSlot, tokens: Sequence[int]) -> tuple[Floats | None, float]:
        """Append tokens, at most n_batch; returns the logits after them, shape (n_vocab,), and the seconds it took.

        The logits are valid until the next call; None if there is no room.
        """
        batch, started = self._batch, time.monotonic()
        if self._failed:
            return None, 0.0
        while True:
            batch.clear()
            row = batch.add(tokens, len(slot.ids), slot.id, last=True, all_rows=False)
            code = self.context.decode(batch)
            if code == 0:
                break
            self._cut(slot, len(slot.ids))
            if code != 1 or not self._drop_idle():
                if code not in (1, 2):
                    log.error("the draft model failed (llama_decode: code %d): no more drafts are made", code)
                    self._failed = True
                return None, time.monotonic() - started
        slot.ids.extend(tokens)
        return self._fitted(self.context.logits(row)), time.monotonic() - started

    @property
    def n_batch(self) -> int:
        return self._batch.capacity

    def _fitted(self, logits: Floats) -> Floats:
        """For the token ids of the other model: its vocabulary may be padded to another number."""
        if len(logits) >= self._n_vocab:
            return logits[: self._n_vocab]
        return np.concatenate([logits, np.full(self._n_vocab - len(logits), -np.inf, np.float32)])

    def _cut(self, slot: SequenceSlot, length: int) -> None:
        if not self.context.forget(slot.id, length):
            self.context.forget(slot.id)
            length = 0
        del slot.ids[length:]

    def _drop_idle(self) -> bool:
        """Empty the least recently used idle sequence; False if there is none."""
        idle = [slot for slot in self._slots if not slot.busy and slot.ids]
        if idle:
            self._cut(min(idle, key=lambda slot: slot.released), 0)
        return bool(idle)
