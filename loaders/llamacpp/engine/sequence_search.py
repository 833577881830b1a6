"""Questions about the sequences of one KV cache: what they hold, and which of it a prompt can use. Nothing is changed.

It must not know requests.
"""

from __future__ import annotations

from loaders.llamacpp.engine.checkpoints import Checkpoint
from loaders.llamacpp.engine.gap import Gap, find_gap
from loaders.llamacpp.engine.prompt_cache import PromptCache
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.llamacpp.native import LlamaContext
from loaders.prefix import common_prefix

#: Fewer tokens than this are computed again instead of being kept.
WORTH_KEEPING = 48

NO_GAP = Gap()


class SequenceSearch:
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
        return _cells_of([each.ids for each in self._all])

    def known(self, ids: tuple[int, ...]) -> int:
        """How many of these tokens are held somewhere. From any thread: what changes meanwhile makes it a guess."""
        held = [tuple(each.ids) for each in self._all]
        return max(self._states.longest(ids), *(common_prefix(each, ids) for each in held))

    def keeps(self, sequence: SequenceSlot) -> bool:
        """Whether a copy of its contents fits into memory, should others need its cells."""
        return not sequence.unsettled and self._states.takes(self._context, sequence)

    def spares(self, ids: list[int], new: int) -> bool:
        """Whether a request can be computed without dropping anything that others may need: `new` tokens follow."""
        wanted = ids[:-1]
        source, length = self._best_source(wanted)
        copy, copied = self._states.best(tuple(wanted), self._serves)
        spare = any(not each.busy and not each.own for each in self._all)
        if checkpoint := self._reachable(tuple(wanted), max(length, copied)):
            carrier = None if self._context.recurrent else self._carrier(checkpoint)
            length = len(checkpoint.ids) if carrier else 0
            fits = self._context.recurrent or bool(
                carrier and (self._shared or self._may_cut_back(carrier, length, True))
            )
        elif copy and copied > length:  # it is taken out of memory
            fits, length = copied == len(copy.ids), 0
        elif length and self._may_cut_back(source, length, True):
            fits = spare = True
        else:
            fits = self._shared or not length
        if not (fits and spare):
            return False
        cells = self._cells - length if self._shared else 0
        if cells + len(ids) + new <= self._context.n_ctx:
            return True
        # what comes back from a checkpoint or a copy shares no cells with others, as is assumed there
        return not (checkpoint or length < copied) and bool(self._to_put_away(ids, new))

    def _to_put_away(self, ids: list[int], new: int) -> list[SequenceSlot]:
        """The idle sequences that must be put away so that the cache has room for this prompt and `new` more tokens,
        least recently used first; none if there is room, or if memory has no room for copies that lack nothing.
        """
        if not self._shared or self._context.window or not self._context.can_cut:
            return []
        idle = sorted((each for each in self._all if not each.busy and each.ids), key=lambda each: each.released)
        chosen: list[SequenceSlot] = []
        left = [each.ids for each in self._all]
        size = 0
        while _cells_of([*left, ids]) + new > self._context.n_ctx:
            if len(chosen) == len(idle):
                return []
            next_one = idle[len(chosen)]
            size += self._context.state_size(next_one.id)
            if next_one.unsettled or not self._states.has_room(size):
                return []
            chosen.append(next_one)
            left = [each.ids for each in self._all if each not in chosen]
        return chosen

    def _best_source(self, wanted: list[int]) -> tuple[SequenceSlot, int]:
        """The sequence of which most can be reused, and how much."""
        source = max(self._all, key=lambda each: (self._usable(each, wanted), not each.busy))
        return source, self._usable(source, wanted)

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
        return max(full, key=lambda pair: pair[1].length, default=(None, NO_GAP))

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

    def _may_cut_back(self, source: SequenceSlot, length: int, careful: bool) -> bool:
        """Whether to continue in the source itself: it loses almost nothing (`careful`: nothing), or there is no free
        sequence to fork to.
        """
        if source.busy or careful:
            return not source.busy and length >= source.own
        alone = all(each.busy for each in self._all if each is not source)
        return alone or not self._shared or source.own - length < WORTH_KEEPING

    def _why_nothing(self, was_empty: bool, wanted: list[int]) -> str:
        if not any(common_prefix(each.ids, wanted) for each in self._all) and not self._states.alike(tuple(wanted)):
            return "the cache was empty" if was_empty else "the cache contains no matching prefix"
        if not self._context.can_cut:
            return "this model's cache cannot be truncated to where the prompts differ, and no checkpoint is before it"
        return (
            "the model's sliding window no longer covers the point where the prompts differ, and no checkpoint is "
            "before it"
        )


def _cells_of(held: list[list[int]]) -> int:
    """The cells that these sequences take at least: prefixes that they may share count once."""
    filled = sorted(held)  # so that each is next to the most similar one
    return sum(len(ids) - common_prefix(before, ids) for before, ids in zip([[], *filled[:-1]], filled, strict=True))
