"""The sequences of one KV cache: which tokens each holds, which are free, and which suits a prompt best.

What a request leaves behind stays, so that the next one with the same beginning need not compute it again: first in
the KV cache itself, then, when that needs the room, in a copy in main memory. Whatever is used again is checked against
what llama.cpp says that its memory holds: layers with a sliding window lose what lies outside it, recurrent ones cannot
go back. Used by the engine's thread alone; knows nothing of requests.
"""

from __future__ import annotations

import time

from loaders.llamacpp.native import Context
from loaders.llamacpp.sequence import Sequence
from loaders.llamacpp.states import Copy, SavedStates
from loaders.prefix import common_prefix

#: Fewer tokens than this are computed again sooner than they are kept.
WORTH_KEEPING = 48

#: So many idle tokens may lie in the cache while others run: llama.cpp passes over it in blocks of 256 cells.
IDLE = 256
#: With a sliding window a copy lacks what lay outside it, so more stays: one part in so many of the cache's cells.
IDLE_SHARE = 8
#: Gaps of so many cells, and of more than is held, are closed.
GAPS = 1024


class Sequences:
    """All sequences of one context. `shared`: they share its cells, so a beginning can be forked at no cost."""

    def __init__(self, context: Context, count: int, *, shared: bool, states: SavedStates) -> None:
        self._context = context
        self._shared = shared
        self._states = states
        self._all = [Sequence(i) for i in range(count)]
        self._most = 0  # tokens held at most since the cells last lay close together: no cell beyond is in use

    @property
    def free(self) -> int:
        """How many are not in use."""
        return sum(not sequence.busy for sequence in self._all)

    @property
    def held(self) -> int:
        """Tokens that the cache holds, those that two sequences share counted twice."""
        return sum(len(sequence.ids) for sequence in self._all)

    def take(self, ids: list[int]) -> tuple[Sequence, str]:
        """A free sequence that holds as long a beginning of `ids` as can be had, and the reason for its length.

        At least the last of `ids` is left to decode, for its logits are wanted. The sequence is busy from now on.
        """
        was_empty = not any(each.ids for each in self._all)
        wanted = ids[:-1]
        source = max(self._all, key=lambda each: (self._usable(each, wanted), not each.busy))
        length = self._usable(source, wanted)
        copy, copied = self._states.best(tuple(wanted), self._serves)
        if copy and copied > length:
            sequence, reason = self._bring_back(copy, copied), "from the copy in memory"
        elif not length:
            sequence, reason = self._spare(), ""
        elif self._may_cut_back(source, length):
            sequence, reason = source, "from the cache"
            if len(source.ids) - length >= WORTH_KEEPING:
                self._states.save(self._context, source, self._serves)
            self.cut(source, length)
        else:
            # it belongs to another chat or another branch of this one, and stays: only its beginning is shared
            sequence, reason = self._spare(apart_from=source), "forked from another branch or chat in the cache"
            self._context.fork(source.id, sequence.id, length)
            sequence.ids[:] = source.ids[:length]
        sequence.busy = True
        self._check(sequence)
        self._tidy()
        if not sequence.ids:
            reason = self._why_nothing(was_empty, wanted)
        return sequence, reason

    def cut(self, sequence: Sequence, length: int) -> None:
        """Drop a sequence's tokens from `length` on; all of them where the memory cannot be cut in the middle."""
        if length == len(sequence.ids):
            return
        self._most = max(self._most, self.held)
        if not self._context.forget(sequence.id, length):
            self._context.forget(sequence.id)
            length = 0
        del sequence.ids[length:]
        if not self.held:
            self._most = 0

    def take_back(self, sequence: Sequence, count: int, *, begun: bool) -> None:
        """The last `count` tokens were not decoded after all; `begun`: some layers may have seen them."""
        length = len(sequence.ids) - count
        # a recurrent state that was written over cannot be had back, whatever llama.cpp says of positions
        self.cut(sequence, 0 if begun and not self._context.can_cut else length)
        self._check(sequence)

    def shift(self, sequence: Sequence, keep: int, drop: int) -> None:
        """Drop `drop` tokens after the first `keep`, and move those behind them forward.

        Afterwards the sequence is empty if a sliding window would have to look at tokens that are not held any more.
        """
        self._context.shift(sequence.id, keep, drop)
        del sequence.ids[keep : keep + drop]
        sequence.unsettled = True
        self._check(sequence)

    def release(self, sequence: Sequence) -> None:
        """Its request has left; what it holds may serve another."""
        sequence.busy = False
        sequence.released = time.monotonic()
        self._tidy()

    def keeps(self, sequence: Sequence) -> bool:
        """Whether a copy of what it holds has room in memory, should others need its cells."""
        return not sequence.unsettled and self._states.takes(self._context, sequence)

    def _tidy(self) -> None:
        """While others run, copy to memory what lies idle; while none does, all but what was used last.

        llama.cpp's attention passes over all cells up to the last one in use, whoever they belong to: what is idle
        there slows down all that run. To bring a copy back takes a hundredth of what it takes to compute it.
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
        """Move what is held to the first cells, where much lay between that is gone now.

        Only by way of copies can llama.cpp move it, so they must have room; shared beginnings would be doubled.
        """
        filled = [each for each in self._all if each.ids]
        held = self.held
        if self._most - held < max(GAPS, held + 1) or self._context.window or not self._context.can_cut:
            return
        size = sum(self._context.state_size(each.id) for each in filled)
        if any(each.unsettled for each in filled) or not self._states.has_room(size) or self._share(filled):
            return
        states = [self._context.save(each.id) for each in filled]
        self._context.clear(data=False)
        for each, state in zip(filled, states, strict=True):
            if not self._context.restore(each.id, state):  # it is read anew
                self._context.forget(each.id)
                each.ids.clear()
        self._most = self.held

    def _share(self, filled: list[Sequence]) -> bool:
        """Whether two may share cells."""
        firsts = [each.ids[0] for each in filled]
        return self._shared and len(set(firsts)) < len(firsts)

    def drop_idle(self) -> bool:
        """Empty the idle sequence that was unused for longest; a copy of it goes to memory. False: none holds any."""
        idle = [sequence for sequence in self._all if not sequence.busy and sequence.ids]
        if idle:
            self._put_away(min(idle, key=lambda sequence: sequence.released))
        return bool(idle)

    def clear(self) -> None:
        """Forget everything, copies too: it is in doubt, or does not hold any more."""
        self._context.clear()
        self._states.clear()
        for sequence in self._all:
            sequence.ids.clear()

    def _usable(self, sequence: Sequence, wanted: list[int]) -> int:
        """How much of a sequence can serve: its common beginning, unless it is busy or cannot be used alone."""
        if sequence.busy and not self._shared:
            return 0
        length = common_prefix(sequence.ids, wanted)
        if not length or not self._serves(self._context.first_held(sequence.id), len(sequence.ids), length):
            return 0
        return length

    def _serves(self, first: int, held: int, length: int) -> bool:
        """Whether the first `length` of `held` tokens can be used alone; `first` is where all layers begin."""
        return (length == held or self._context.can_cut) and self._context.serves(first, length)

    def _check(self, sequence: Sequence) -> None:
        """Empty a sequence of which the memory does not hold what the next token looks at."""
        if sequence.ids and not self._context.holds(sequence.id, len(sequence.ids)):
            self.cut(sequence, 0)

    def _may_cut_back(self, source: Sequence, length: int) -> bool:
        """Whether to continue in the source itself: it loses next to nothing, or there is nowhere to fork to."""
        if source.busy:
            return False
        alone = all(each.busy for each in self._all if each is not source)
        return alone or not self._shared or len(source.ids) - length < WORTH_KEEPING

    def _bring_back(self, copy: Copy, length: int) -> Sequence:
        """A free sequence with the first `length` tokens of a copy in memory; empty, if the cache has no room."""
        # out of the store first: to make room, others are put there, and that may push the oldest out
        self._states.take_out(copy)
        sequence = self._spare()
        restored = self._context.restore(sequence.id, copy.state)
        while not restored and self.drop_idle():
            restored = self._context.restore(sequence.id, copy.state)
        if restored:
            sequence.ids[:] = copy.ids
            self.cut(sequence, length)
        another = len(copy.ids) - length >= WORTH_KEEPING  # chat's, that only begins alike
        if not restored or another or self._context.window or not self._context.can_cut:
            self._states.put(copy)  # also where the sequence, once it has grown, can not be cut back to here
        return sequence

    def _spare(self, apart_from: Sequence | None = None) -> Sequence:
        """A free sequence, emptied: one that holds nothing, else the one unused for longest."""
        free = [each for each in self._all if not each.busy and each is not apart_from]
        chosen = min(free, key=lambda each: (bool(each.ids), each.released))
        self._put_away(chosen)
        return chosen

    def _put_away(self, sequence: Sequence) -> None:
        if len(sequence.ids) >= WORTH_KEEPING:
            self._states.save(self._context, sequence, self._serves)
        self.cut(sequence, 0)

    def _why_nothing(self, was_empty: bool, wanted: list[int]) -> str:
        if not any(common_prefix(each.ids, wanted) for each in self._all) and not self._states.alike(tuple(wanted)):
            return "the cache was empty" if was_empty else "the prompt begins differently from all in the cache"
        if not self._context.can_cut:
            return "this model's memory cannot be cut back to where the prompts differ"
        return "the model's sliding window no longer reaches back to where the prompts differ"
