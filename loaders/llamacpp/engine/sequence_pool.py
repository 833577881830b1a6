"""The sequences of one KV cache: which tokens each holds, which are free, and which suits a prompt best.

A finished request's tokens are kept, so that the next one with the same prefix need not compute them again: first in
the KV cache itself, then, when its cells are needed, in a copy in main memory. Reuse is checked against what llama.cpp
reports as held: layers with a sliding window lose cells outside of it, recurrent ones cannot go back, except to a
checkpoint. Used by the engine's thread only; knows nothing of requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice

from loaders.labels import is_of
from loaders.llamacpp.engine.checkpoints import WORTH, Checkpoint
from loaders.llamacpp.engine.prompt_cache import copy_of
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.engine.sequence_search import NO_GAP, WORTH_KEEPING, SequenceSearch
from loaders.llamacpp.engine.sequence_slot import SequenceSlot

#: How many idle tokens may stay in the cache while others run: llama.cpp reads it in blocks of 256 cells.
IDLE = 256
#: With a sliding window, a copy lacks the cells outside of it, so more stays: this fraction of the cache's cells.
IDLE_SHARE = 8
#: Gaps of this many cells, and of more than is held, are closed.
GAPS = 1024
#: A state on disk has so many checkpoints with it: before the reply, and before the last message.
_KEPT_WITH = 2


class SequencePool(SequenceSearch):
    """All sequences of one context, and what is done with them."""

    def take(self, ids: list[int], new: int = 0, *, careful: bool = False, label: str = "") -> tuple[SequenceSlot, str]:
        """A free sequence with the longest available prefix of `ids`, and the reason for its length. `new` tokens will
        follow them at most.

        At least the last of `ids` is left to decode, because its logits are needed. The sequence is in use from now on.
        `careful`, if this `spares` what others need: for a request that nobody waits for. `label`: whose it is.
        """
        was_empty = not any(each.ids for each in self._all)
        wanted = ids[:-1]
        source, length = self._best_source(wanted)
        copy, copied = self._states.best(tuple(wanted), self._serves)
        moved, gap = self._closest_gap(wanted, new) if self._shifts and not careful else (None, NO_GAP)
        if moved and gap.length > max(length, copied) + WORTH_KEEPING:
            sequence, reason = moved, "from the cache, moved to where older messages were left out"
            self.shift(moved, gap.start, gap.dropped)
            self.cut(moved, gap.length)
        elif checkpoint := self._reachable(tuple(wanted), max(length, copied)):
            sequence, reason = self._return_to(checkpoint, careful), "from a checkpoint"
        elif copy and copied > length:
            where = "from the copy on disk" if copy.from_disk else "from the prompt cache in memory"
            sequence, reason = self._bring_back(copy, copied), where
        elif not length:
            sequence, reason = self._spare(), ""
        elif self._may_cut_back(source, length, careful):
            sequence, reason = source, "from the cache"
            if source.own - length >= WORTH_KEEPING:
                self._states.save(self._context, source, self._serves)
            self.cut(source, length)
        else:
            # it belongs to another chat or another branch of this one, and stays: only its prefix is shared
            sequence, reason = self._spare(apart_from=source), "copied from another branch or chat in the cache"
            self._context.fork(source.id, sequence.id, length)
            sequence.ids[:] = source.ids[:length]
        sequence.busy, sequence.doomed = True, False
        if careful and sequence.own:
            sequence.ahead = label
        else:
            sequence.label, sequence.ahead, sequence.lasting = label, "", False
        self._check(sequence)
        if self._context.loses_past:  # once it has grown, it cannot go back to here
            self.checkpoint(sequence)
        if careful:
            for each in self._to_put_away(ids, new):
                self._put_away(each)
        else:
            self._tidy()
        if not sequence.ids:
            reason = self._why_nothing(was_empty, wanted)
        return sequence, reason

    def cut(self, sequence: SequenceSlot, length: int) -> None:
        """Drop a sequence's tokens from `length` on; all of them if the memory cannot be truncated in the middle."""
        if length == len(sequence.ids):
            return
        self._most = max(self._most, self._cells)
        if not self._context.forget(sequence.id, length):
            self._context.forget(sequence.id)
            length = 0
        del sequence.ids[length:]
        sequence.own = min(sequence.own, length)
        if not self.held:
            self._most = 0

    def take_back(self, sequence: SequenceSlot, count: int, *, begun: bool) -> None:
        """The last `count` tokens were not decoded after all; `begun`: some layers may have seen them."""
        length = len(sequence.ids) - count
        if begun and not self._context.can_cut:  # the recurrent state was overwritten, whatever llama.cpp reports
            self.go_back(sequence, length)
        else:
            self.cut(sequence, length)
        self._check(sequence)

    def checkpoint(self, sequence: SequenceSlot) -> None:
        """Keep its present state for `go_back`, and for later requests, if it is worth it and there is room."""
        if len(sequence.ids) < WORTH or sequence.unsettled:
            return
        if self._states.checkpoints.takes(self._context.checkpoint_size(sequence.id)):
            self._states.checkpoints.add(sequence.ids, lambda: self._context.checkpoint(sequence.id), sequence.label)
            self._states.trim()

    def go_back(self, sequence: SequenceSlot, length: int) -> None:
        """Return to the last checkpoint among a sequence's first `length` tokens; it is empty if there is none."""
        for checkpoint in self._states.checkpoints.before(tuple(sequence.ids[:length])):
            self._rewind(sequence, checkpoint)
            return
        self.cut(sequence, 0)

    def shift(self, sequence: SequenceSlot, keep: int, drop: int) -> None:
        """Drop `drop` tokens after the first `keep`, and move those after them forward.

        Afterwards the sequence is empty if a sliding window would need tokens that are no longer held.
        """
        self._context.shift(sequence.id, keep, drop)
        del sequence.ids[keep : keep + drop]
        sequence.unsettled = True
        self._check(sequence)

    def release(self, sequence: SequenceSlot, *, careful: bool = False) -> None:
        """Its request is over; its contents may be reused. `careful`: what that request added may be dropped."""
        sequence.busy = False
        sequence.released = time.monotonic()
        if sequence.doomed:
            self.cut(sequence, 0)
        if not careful:
            sequence.own = len(sequence.ids)
            self._tidy()

    def add(self, copy: SavedState, checkpoints: Sequence[Checkpoint]) -> None:
        """A copy, and checkpoints of its beginning, that were kept elsewhere."""
        self._states.put(copy)
        for each in checkpoints:
            if self._states.checkpoints.takes(each.state.nbytes):
                self._states.checkpoints.add(each.ids, lambda state=each.state: state, copy.label)  # type: ignore[misc]
        self._states.trim()

    def unkept(self, kept: Callable[[tuple[int, ...]], bool], least: int) -> tuple[SavedState, list[Checkpoint]] | None:
        """A lasting state of at least `least` tokens that is not `kept` yet, with its latest checkpoints; those used
        last come first.
        """
        for each in sorted(self._all, key=lambda each: -each.released):
            idle = each.lasting and not each.busy and not each.unsettled
            own = tuple(each.ids[: each.own])
            if idle and len(own) >= least and not kept(own) and (copy := self._copy_of_own(each)):
                return copy, self._latest(own)
        for copy in reversed(self._states.lasting()):
            if len(copy.ids) >= least and not kept(copy.ids):
                return copy, self._latest(copy.ids)
        return None

    def _copy_of_own(self, sequence: SequenceSlot) -> SavedState | None:
        """A copy without what yielding requests have added, such as words that nobody has sent; None if they cannot be
        separated.
        """
        if sequence.own == len(sequence.ids):
            return copy_of(self._context, sequence)
        empty = next((each for each in self._all if not each.busy and not each.ids), None)
        if empty is None or not self._shared or self._context.loses_past:
            return None
        self._context.fork(sequence.id, empty.id, sequence.own)
        empty.ids[:], empty.own = sequence.ids[: sequence.own], sequence.own
        empty.label, empty.lasting = sequence.label, True
        try:
            return copy_of(self._context, empty)
        finally:
            self.cut(empty, 0)

    def _latest(self, ids: tuple[int, ...]) -> list[Checkpoint]:
        return list(islice(self._states.checkpoints.before(ids), _KEPT_WITH))

    def _tidy(self) -> None:
        """While others run, copy idle sequences to memory; while none does, all but the one used last.

        llama.cpp's attention reads all cells up to the last one in use, of whichever sequence: idle ones slow down all
        running ones. Restoring a copy takes a hundredth of the time to compute it.
        """
        if not self._shared:
            return
        running = any(each.busy for each in self._all)
        idle = sorted((each for each in self._all if not each.busy and each.ids), key=lambda each: each.released)
        if not running:
            idle = idle[:-1]
        held = sum(len(each.ids) for each in idle)
        most = self._context.n_ctx // IDLE_SHARE if self._context.window else IDLE
        for each in idle:
            if held <= most:
                break
            if self.keeps(each):
                held -= len(each.ids)
                self._put_away(each)
        if running:
            self._close_gaps()

    def _close_gaps(self) -> None:
        """Move what is held to the first cells, if there are large gaps.

        llama.cpp can only move it by copies, so they must fit. Shared prefixes are duplicated by it: this is included
        in what is held, which must be far less than the cells in use before.
        """
        filled = [each for each in self._all if each.ids]
        held = self.held
        if self._most - held < max(GAPS, held + 1) or self._context.window or not self._context.can_cut:
            return
        size = sum(self._context.state_size(each.id) for each in filled)
        if any(each.unsettled for each in filled) or not self._states.has_room(size):
            return
        states = [self._context.save(each.id) for each in filled]
        self._context.clear(data=False)
        for each, state in zip(filled, states, strict=True):
            if not self._context.restore(each.id, state):  # it is read again
                self._context.forget(each.id)
                each.ids.clear()
        self._most = self.held

    def drop_idle(self) -> bool:
        """Empty the least recently used idle sequence; a copy of it goes to memory. False if there is none."""
        idle = [sequence for sequence in self._all if not sequence.busy and sequence.ids]
        if idle:
            self._put_away(min(idle, key=lambda sequence: (sequence.own > 0, sequence.released)))
        return bool(idle)

    def forget(self, label: str) -> None:
        """Drop what is held for this label; what a running request of it holds goes when that ends."""
        for each in self._all:
            if is_of(each.label, label) or is_of(each.ahead, label):
                each.doomed = each.busy
                if not each.busy:
                    self.cut(each, 0 if is_of(each.label, label) else each.own)
        self._states.forget(label)

    def labels(self) -> set[str]:
        """Whose states are held, in the cache or in memory. From any thread: it may change meanwhile."""
        return {each.label for each in self._all if each.own >= WORTH_KEEPING} | self._states.labels()

    def clear(self) -> None:
        """Drop everything, including copies: it is uncertain, or no longer valid."""
        self._context.clear()
        self._states.clear()
        for sequence in self._all:
            sequence.ids.clear()

    def _return_to(self, checkpoint: Checkpoint, careful: bool) -> SequenceSlot:
        """A free sequence in the state of a reachable checkpoint; empty if the cache has no room."""
        length = len(checkpoint.ids)
        source = self._carrier(checkpoint)
        if self._context.recurrent:
            sequence = self._spare()
        elif not source:
            copy = self._states.holding(checkpoint.ids)
            assert copy
            sequence = self._restored(copy)
            self._states.put(copy)
        elif self._may_cut_back(source, length, careful):
            sequence = source
            if source.own - length >= WORTH_KEEPING:
                self._states.save(self._context, source, self._serves)
        else:
            sequence = self._spare(apart_from=source)
            self._context.fork(source.id, sequence.id, length)
            sequence.ids[:] = source.ids[:length]
        if sequence.ids or self._context.recurrent:
            self._rewind(sequence, checkpoint)
        return sequence

    def _rewind(self, sequence: SequenceSlot, checkpoint: Checkpoint) -> None:
        """Return to a checkpoint in a sequence that holds its tokens; it is empty if that fails."""
        self._most = max(self._most, self._cells)
        rewound = self._context.rewind(sequence.id, checkpoint.state, len(checkpoint.ids))
        sequence.ids[:] = checkpoint.ids if rewound else ()
        self._states.checkpoints.touch(checkpoint)

    def _check(self, sequence: SequenceSlot) -> None:
        """Empty a sequence if the memory does not hold what the next token needs."""
        if sequence.ids and not self._context.holds(sequence.id, len(sequence.ids)):
            self.cut(sequence, 0)

    def _bring_back(self, copy: SavedState, length: int) -> SequenceSlot:
        """A free sequence with the first `length` tokens of a copy in memory; empty if the cache has no room."""
        sequence = self._restored(copy)
        another = len(copy.ids) - length >= WORTH_KEEPING  # of a different chat with the same beginning
        if not sequence.ids or another or self._context.window or not self._context.can_cut:
            self._states.put(copy)  # also if the sequence, once it has grown, cannot be truncated to here
        if sequence.ids:
            self.cut(sequence, length)
        return sequence

    def _restored(self, copy: SavedState) -> SequenceSlot:
        """A free sequence with the contents of a copy, which is taken out; empty if the cache has no room."""
        # before anything else: to make space, others are added there, which may drop the oldest
        self._states.take_out(copy)
        sequence = self._spare()
        restored = self._context.restore(sequence.id, copy.state)
        while not restored and self.drop_idle():
            restored = self._context.restore(sequence.id, copy.state)
        if restored:
            sequence.ids[:] = copy.ids
            sequence.own = len(copy.ids)
            sequence.label, sequence.lasting = copy.label, copy.lasting
        return sequence

    def _spare(self, apart_from: SequenceSlot | None = None) -> SequenceSlot:
        """A free sequence, emptied: one that holds nothing, else the least recently used one."""
        free = [each for each in self._all if not each.busy and each is not apart_from]
        chosen = min(free, key=lambda each: (bool(each.ids), each.own > 0, each.released))
        self._put_away(chosen)
        chosen.own = 0
        return chosen

    def _put_away(self, sequence: SequenceSlot) -> None:
        if len(sequence.ids) >= WORTH_KEEPING and (
            sequence.own or self._states.has_room(self._context.state_size(sequence.id))
        ):
            self._states.save(self._context, sequence, self._serves)
        self.cut(sequence, 0)
