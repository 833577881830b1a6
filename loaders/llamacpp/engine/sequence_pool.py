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

from loaders.llamacpp.engine.checkpoints import WORTH, Checkpoint
from loaders.llamacpp.engine.gap import Gap, find_gap
from loaders.llamacpp.engine.prompt_cache import PromptCache, copy_of
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.llamacpp.native import LlamaContext
from loaders.prefix import common_prefix

#: Fewer tokens than this are computed again instead of being kept.
WORTH_KEEPING = 48

#: How many idle tokens may stay in the cache while others run: llama.cpp reads it in blocks of 256 cells.
IDLE = 256
#: With a sliding window, a copy lacks the cells outside of it, so more stays: this fraction of the cache's cells.
IDLE_SHARE = 8
#: Gaps of this many cells, and of more than is held, are closed.
GAPS = 1024


_NO_GAP = Gap()
#: A state on disk has so many checkpoints with it: before the reply, and before the last message.
_KEPT_WITH = 2


class SequencePool:
    """All sequences of one context. `shared`: they share its cells, so a prefix can be forked for free. `shifts`: what
    follows left out messages may be moved forward, although it was computed with them.
    """

    def __init__(
        self, context: LlamaContext, count: int, *, shared: bool, states: PromptCache, shifts: bool = False
    ) -> None:
        self._context = context
        self._shared = shared
        self._shifts = shifts and context.can_shift
        self._states = states
        self._all = [SequenceSlot(i) for i in range(count)]
        self._most = 0  # the most cells in use since the cache was last compact

    @property
    def free(self) -> int:
        """How many sequences are not in use."""
        return sum(not sequence.busy for sequence in self._all)

    @property
    def held(self) -> int:
        """Tokens that the cache holds; those that two sequences share count twice."""
        return sum(len(sequence.ids) for sequence in self._all)

    @property
    def _cells(self) -> int:
        """Cells in use, at least: prefixes that sequences may share count once."""
        filled = sorted(each.ids for each in self._all)  # so that each is next to the most similar one
        return sum(
            len(ids) - common_prefix(before, ids) for before, ids in zip([[], *filled[:-1]], filled, strict=True)
        )

    def take(self, ids: list[int], new: int = 0) -> tuple[SequenceSlot, str]:
        """A free sequence with the longest available prefix of `ids`, and the reason for its length. `new` tokens will
        follow them at most.

        At least the last of `ids` is left to decode, because its logits are needed. The sequence is in use from now on.
        """
        was_empty = not any(each.ids for each in self._all)
        wanted = ids[:-1]
        source = max(self._all, key=lambda each: (self._usable(each, wanted), not each.busy))
        length = self._usable(source, wanted)
        copy, copied = self._states.best(tuple(wanted), self._serves)
        moved, gap = self._closest_gap(wanted, new) if self._shifts else (None, _NO_GAP)
        if moved and gap.length > max(length, copied) + WORTH_KEEPING:
            sequence, reason = moved, "from the cache, moved to where older messages were left out"
            self.shift(moved, gap.start, gap.dropped)
            self.cut(moved, gap.length)
        elif checkpoint := self._reachable(tuple(wanted), max(length, copied)):
            sequence, reason = self._return_to(checkpoint), "from a checkpoint"
        elif copy and copied > length:
            where = "from the copy on disk" if copy.from_disk else "from the prompt cache in memory"
            sequence, reason = self._bring_back(copy, copied), where
        elif not length:
            sequence, reason = self._spare(), ""
        elif self._may_cut_back(source, length):
            sequence, reason = source, "from the cache"
            if len(source.ids) - length >= WORTH_KEEPING:
                self._states.save(self._context, source, self._serves)
            self.cut(source, length)
        else:
            # it belongs to another chat or another branch of this one, and stays: only its prefix is shared
            sequence, reason = self._spare(apart_from=source), "copied from another branch or chat in the cache"
            self._context.fork(source.id, sequence.id, length)
            sequence.ids[:] = source.ids[:length]
        sequence.busy, sequence.label = True, ""
        self._check(sequence)
        if self._context.loses_past:  # once it has grown, it cannot go back to here
            self.checkpoint(sequence)
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
            self._states.checkpoints.add(sequence.ids, lambda: self._context.checkpoint(sequence.id))
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

    def release(self, sequence: SequenceSlot) -> None:
        """Its request is over; its contents may be reused."""
        sequence.busy = False
        sequence.released = time.monotonic()
        self._tidy()

    def add(self, copy: SavedState, checkpoints: Sequence[Checkpoint]) -> None:
        """A copy, and checkpoints of its beginning, that were kept elsewhere."""
        self._states.put(copy)
        for each in checkpoints:
            if self._states.checkpoints.takes(each.state.nbytes):
                self._states.checkpoints.add(each.ids, lambda state=each.state: state)  # type: ignore[misc]
        self._states.trim()

    def known(self, ids: tuple[int, ...]) -> int:
        """How many of these tokens are held somewhere. From any thread: what changes meanwhile makes it a guess."""
        held = [tuple(each.ids) for each in self._all]
        return max(self._states.longest(ids), *(common_prefix(each, ids) for each in held))

    def unkept(self, kept: Callable[[tuple[int, ...]], bool], least: int) -> tuple[SavedState, list[Checkpoint]] | None:
        """A labelled state of at least `least` tokens that is not `kept` yet, with its latest checkpoints; those used
        last come first.
        """
        for each in sorted(self._all, key=lambda each: -each.released):
            idle = each.label and not each.busy and not each.unsettled
            if idle and len(each.ids) >= least and not kept(tuple(each.ids)):
                return copy_of(self._context, each), self._latest(tuple(each.ids))
        for copy in reversed(self._states.labelled()):
            if len(copy.ids) >= least and not kept(copy.ids):
                return copy, self._latest(copy.ids)
        return None

    def _latest(self, ids: tuple[int, ...]) -> list[Checkpoint]:
        return list(islice(self._states.checkpoints.before(ids), _KEPT_WITH))

    def keeps(self, sequence: SequenceSlot) -> bool:
        """Whether a copy of its contents fits into memory, should others need its cells."""
        return not sequence.unsettled and self._states.takes(self._context, sequence)

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
            self._put_away(min(idle, key=lambda sequence: sequence.released))
        return bool(idle)

    def clear(self) -> None:
        """Drop everything, including copies: it is uncertain, or no longer valid."""
        self._context.clear()
        self._states.clear()
        for sequence in self._all:
            sequence.ids.clear()

    def _usable(self, sequence: SequenceSlot, wanted: list[int]) -> int:
        """How much of a sequence can be reused: its common prefix, unless it is in use or cannot be used alone."""
        if sequence.busy and not self._shared:
            return 0
        length = common_prefix(sequence.ids, wanted)
        if not length or not self._serves(self._context.first_held(sequence.id), len(sequence.ids), length):
            return 0
        return length

    def _serves(self, first: int, held: int, length: int) -> bool:
        """Whether the first `length` of `held` tokens can be used alone; `first` is where all layers begin."""
        return (length == held or self._context.can_cut) and self._context.serves(first, length)

    def _closest_gap(self, wanted: list[int], new: int) -> tuple[SequenceSlot | None, Gap]:
        """The idle sequence that holds most of `wanted` but for one gap, which would not have fitted any more."""
        spare = min(new, self._context.n_ctx // 4)
        found = [(each, find_gap(each.ids, wanted)) for each in self._all if not each.busy and not each.unsettled]
        full = [(each, gap) for each, gap in found if len(wanted) + gap.dropped + spare > self._context.n_ctx]
        full = [(each, gap) for each, gap in full if self._serves_after(each, gap)]
        return max(full, key=lambda pair: pair[1].length, default=(None, _NO_GAP))

    def _serves_after(self, sequence: SequenceSlot, gap: Gap) -> bool:
        """Whether all layers hold what the token after the moved ones needs."""
        first = self._context.first_held(sequence.id)
        moved = first if first < gap.start else max(first - gap.dropped, gap.start)
        return self._context.serves(moved, gap.length)

    def _reachable(self, wanted: tuple[int, ...], beyond: int) -> Checkpoint | None:
        """The longest checkpoint on the way to `wanted`, if longer than `beyond`, for which full attention is held."""
        for checkpoint in self._states.checkpoints.before(wanted):
            if len(checkpoint.ids) <= beyond:
                return None
            if self._context.recurrent or self._carrier(checkpoint) or self._states.holding(checkpoint.ids):
                return checkpoint
        return None

    def _carrier(self, checkpoint: Checkpoint) -> SequenceSlot | None:
        """A sequence that begins with the tokens of a checkpoint, so that its full attention can be used; idle if
        possible.
        """
        wanted = list(checkpoint.ids)
        usable = [each for each in self._all if self._shared or not each.busy]
        found = [each for each in usable if each.ids[: len(wanted)] == wanted]
        return min(found, key=lambda each: (each.busy, len(each.ids)), default=None)

    def _return_to(self, checkpoint: Checkpoint) -> SequenceSlot:
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
        elif self._may_cut_back(source, length):
            sequence = source
            if len(source.ids) - length >= WORTH_KEEPING:
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

    def _may_cut_back(self, source: SequenceSlot, length: int) -> bool:
        """Whether to continue in the source itself: it loses almost nothing, or there is no free sequence to fork
        to.
        """
        if source.busy:
            return False
        alone = all(each.busy for each in self._all if each is not source)
        return alone or not self._shared or len(source.ids) - length < WORTH_KEEPING

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
        return sequence

    def _spare(self, apart_from: SequenceSlot | None = None) -> SequenceSlot:
        """A free sequence, emptied: one that holds nothing, else the least recently used one."""
        free = [each for each in self._all if not each.busy and each is not apart_from]
        chosen = min(free, key=lambda each: (bool(each.ids), each.released))
        self._put_away(chosen)
        return chosen

    def _put_away(self, sequence: SequenceSlot) -> None:
        if len(sequence.ids) >= WORTH_KEEPING:
            self._states.save(self._context, sequence, self._serves)
        self.cut(sequence, 0)

    def _why_nothing(self, was_empty: bool, wanted: list[int]) -> str:
        if not any(common_prefix(each.ids, wanted) for each in self._all) and not self._states.alike(tuple(wanted)):
            return "the cache was empty" if was_empty else "the cache contains no matching prefix"
        if not self._context.can_cut:
            return "this model's cache cannot be truncated to where the prompts differ, and no checkpoint is before it"
        return (
            "the model's sliding window no longer covers the point where the prompts differ, and no checkpoint is "
            "before it"
        )
