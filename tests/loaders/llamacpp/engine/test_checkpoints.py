"""Checkpoints over a memory that forgets: wherever a sequence goes back to, all of its layers hold the same tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.llamacpp.engine.checkpoints import WORTH, WORTH_WINDOWED, Checkpoints, choose_places
from loaders.llamacpp.engine.prompt_cache import PromptCache
from loaders.llamacpp.engine.sequence_pool import SequencePool
from loaders.llamacpp.native import first_needed_position


@dataclass
class Layers:
    """What a sequence holds: full attention all tokens, a window from `first` on, recurrent layers what they read."""

    full: list[int] = field(default_factory=list)
    window: list[int] = field(default_factory=list)
    first: int = 0
    state: list[int] = field(default_factory=list)


class ForgetfulContext:
    """A memory whose contents are the tokens that were read, so that a mixture of two texts is seen.

    `kind`: "hybrid" has full attention and recurrent layers, "recurrent" only these, "windowed" full attention and a
    window, of which a copy holds the end and which others may overwrite.
    """

    window, can_shift = 20, False

    def __init__(self, kind: str, cells: int) -> None:
        self.kind, self.cells, self.n_ctx = kind, cells, cells
        self.recurrent, self.can_cut, self.loses_past = kind == "recurrent", kind == "windowed", True
        if not self.can_cut:
            self.window = 0
        self.held: dict[int, Layers] = {}
        self.kept: list[Layers] = []

    def of(self, sequence: int) -> Layers:
        return self.held.setdefault(sequence, Layers())

    def decode(self, sequence: int, ids: list[int]) -> None:
        """Read the rest of these tokens; the layers must agree about the first ones."""
        mine = self.of(sequence)
        held = mine.state if not self.can_cut else mine.full
        assert held == ids[: len(held)]
        if not self.recurrent:
            assert mine.full == held
        if self.can_cut:
            assert mine.window == held
            assert mine.first <= first_needed_position(len(held), self.window)
        for layer in (mine.full, mine.window, mine.state):
            layer[:] = ids
        for other in self.held:
            if other != sequence:
                self.lose(self.held[other])

    def lose(self, layers: Layers) -> None:
        if self.can_cut:
            layers.first = max(layers.first, len(layers.window) - self.window, 0)

    def first_held(self, sequence: int) -> int:
        mine = self.of(sequence)
        held = mine.window if self.can_cut else mine.state
        return -1 if not held else mine.first if self.can_cut else len(held) - 1

    def serves(self, first: int, length: int) -> bool:
        return not self.can_cut or 0 <= first <= first_needed_position(length, self.window)

    def holds(self, sequence: int, length: int) -> bool:
        mine = self.of(sequence)
        lengths = {len(mine.full), len(mine.window)} if self.can_cut else {len(mine.state)}
        return lengths == {length} and self.serves(self.first_held(sequence), length)

    def forget(self, sequence: int, position: int = 0) -> bool:
        mine = self.of(sequence)
        if not self.can_cut and 0 < position < len(mine.state):
            return False
        for layer in (mine.full, mine.window, mine.state):
            del layer[position:]
        if not position:
            mine.first = 0
        return True

    def fork(self, source: int, target: int, length: int) -> None:
        mine = self.of(source)
        assert not self.of(target).full
        cut = len(mine.state) if not self.can_cut else length  # a recurrent state is shared as it is
        self.held[target] = Layers(mine.full[:length], mine.window[:length], mine.first, mine.state[:cut])

    def clear(self, *, data: bool = True) -> None:
        self.held.clear()

    def state_size(self, sequence: int) -> int:
        return len(self.of(sequence).full)

    def checkpoint_size(self, sequence: int) -> int:
        return min(len(self.of(sequence).full), 10)

    def copy(self, sequence: int, size: int) -> npt.NDArray[np.uint8]:
        mine = self.of(sequence)
        self.kept.append(Layers(list(mine.full), list(mine.window), mine.first, list(mine.state)))
        self.lose(self.kept[-1])
        found = np.zeros(size, np.uint8)
        self.numbers[found.ctypes.data] = (found, len(self.kept) - 1)
        return found

    numbers: dict[int, tuple[npt.NDArray[np.uint8], int]] = {}

    def kept_at(self, state: npt.NDArray[np.uint8]) -> Layers:
        return self.kept[self.numbers[state.ctypes.data][1]]

    def save(self, sequence: int) -> npt.NDArray[np.uint8]:
        return self.copy(sequence, self.state_size(sequence))

    def checkpoint(self, sequence: int) -> npt.NDArray[np.uint8]:
        return self.copy(sequence, self.checkpoint_size(sequence))

    def restore(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        if sum(len(each.full) for each in self.held.values()) + len(state) > self.cells:
            return False
        kept = self.kept_at(state)
        self.held[sequence] = Layers(list(kept.full), list(kept.window), kept.first, list(kept.state))
        return True

    def rewind(self, sequence: int, state: npt.NDArray[np.uint8], length: int) -> bool:
        mine, kept = self.of(sequence), self.kept_at(state)
        mine.window, mine.first, mine.state = list(kept.window), kept.first, list(kept.state)
        if self.recurrent:
            mine.full = list(kept.full)
        assert len(kept.state) == length
        del mine.full[length:]
        return True


def pool(kind: str, *, cells: int = 5000, shared: bool = True, most: int = 8, capacity: int = 4000) -> tuple:  # type: ignore[type-arg]
    context = ForgetfulContext(kind, cells)
    context.numbers = {}
    states = PromptCache(capacity, Checkpoints(most, capacity // 2))
    return context, SequencePool(context, 4, shared=shared, states=states)  # type: ignore[arg-type]


def ask(context: ForgetfulContext, sequences: SequencePool, ids: list[int], new: int = 5) -> int:
    """A request: take, decode with a stop before the last token, reply, release. Returns what was reused."""
    sequence, _ = sequences.take(ids)
    reused = len(sequence.ids)
    assert sequence.ids == ids[:reused]
    for place in [*choose_places(ids, reused, ()), len(ids)]:
        sequence.ids[:] = ids[:place]
        context.decode(sequence.id, sequence.ids)
        if place < len(ids):
            sequences.checkpoint(sequence)
    sequence.ids.extend(range(-new, 0))
    context.decode(sequence.id, sequence.ids)
    sequences.release(sequence)
    return reused


KINDS = ("hybrid", "recurrent", "windowed")


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    requests=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 300), st.integers(0, 3)), max_size=25),
    shared=st.booleans(),
    most=st.sampled_from([0, 1, 3, 30]),
    capacity=st.sampled_from([0, 30, 300, 10_000]),
)
def test_all_layers_hold_the_same_tokens(
    kind: str, requests: list[tuple[int, int, int]], shared: bool, most: int, capacity: int
) -> None:
    """Chats that share beginnings and part at any place; the context checks each reading."""
    context, sequences = pool(kind, shared=shared, most=most, capacity=capacity)
    for chat, length, end in requests:
        ask(context, sequences, [chat // 2, *range(chat, chat + length), *[1000 + end] * end])
        states = sequences._states
        assert states.size <= capacity
        assert len(states.checkpoints) <= most
        assert states.checkpoints.size <= capacity // 2


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_once_is_not_read_again(kind: str, shared: bool) -> None:
    context, sequences = pool(kind, shared=shared)
    chat = list(range(200))
    ask(context, sequences, chat)
    assert ask(context, sequences, chat) == 199  # regenerate
    turn = [*chat, *range(-5, 0), *range(1000, 1100)]
    assert ask(context, sequences, turn) == 205
    assert ask(context, sequences, [*turn[:205], *range(2000, 2100)]) >= 205 - WORTH  # another last message
    other = list(range(5000, 5200))
    assert ask(context, sequences, other) == 0
    assert ask(context, sequences, turn) >= len(turn) - WORTH
    assert ask(context, sequences, other) == 199
    without = [*chat, *range(-2, 0), *range(3000, 3100)]  # the thought in the first reply is dropped
    assert ask(context, sequences, without) >= 199


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_was_stopped_costs_only_what_follows_the_last_checkpoint(kind: str) -> None:
    context, sequences = pool(kind)
    ask(context, sequences, list(range(200)))
    sequence, _ = sequences.take([*range(200), *range(-5, 0), *range(1000, 1500)])
    assert len(sequence.ids) == 205
    sequence.ids.extend(range(1000, 1300))
    context.decode(sequence.id, sequence.ids)
    sequences.take_back(sequence, 300, begun=True)
    assert sequence.ids == [*range(200), *range(-5, 0)]
    context.decode(sequence.id, [*sequence.ids, 7])


def test_the_least_recently_used_is_dropped() -> None:
    kept = Checkpoints(3, 100)
    for length in (1, 2, 3):
        kept.add(range(length), lambda: np.zeros(30, np.uint8))
    first = next(kept.before((0,)))
    kept.touch(first)
    kept.add(range(4), lambda: np.zeros(30, np.uint8))
    assert [len(each.ids) for each in kept.before((0, 1, 2, 3, 4))] == [4, 3, 1]
    assert kept.size == 90
    kept.add(range(5), lambda: np.zeros(80, np.uint8))  # it needs the room of all others
    assert [len(each.ids) for each in kept.before((0, 1, 2, 3, 4))] == [5]
    assert not kept.takes(101)
    assert kept.takes(100)
    assert not Checkpoints(0, 100).takes(1)


def test_what_is_there_is_not_copied_again() -> None:
    kept = Checkpoints(3, 100)
    kept.add([1, 2], lambda: np.zeros(30, np.uint8))
    kept.add((1, 2), lambda: pytest.fail("copied"))
    assert len(kept) == 1


@given(
    ids=st.lists(st.sampled_from([0, 1, 2, 3, 900, 901]), min_size=1, max_size=3000),
    start=st.integers(0, 2999),
    worth=st.sampled_from([WORTH, WORTH_WINDOWED]),
)
def test_places_lie_in_what_is_read_and_are_few(ids: list[int], start: int, worth: int) -> None:
    start = min(start, len(ids) - 1)
    places = choose_places(ids, start, {900, 901}, worth)
    assert places == sorted(set(places))
    assert len(places) <= 11
    assert all(after - before >= worth for before, after in pairwise([start, *places]))
    assert all(place < len(ids) for place in places)


def test_places_in_a_chat() -> None:
    """Before the opening of the reply, before the last message, and not where that saves only a few tokens."""
    start_of, end_of = 900, 901

    def message(length: int) -> list[int]:
        return [start_of, 5, *[7] * length, end_of, 6]

    controls = {start_of, end_of}
    opening = [start_of, 8, 6, 9, 6]
    chat = [*message(100), *message(60)]
    ids = [*chat, *message(40), *opening]
    assert choose_places(ids, 0, controls) == [len(chat), len(ids) - len(opening)]
    assert choose_places(ids, len(chat) - 2, controls) == [len(ids) - len(opening)]  # it goes on from the last reply
    assert choose_places(ids, len(chat) - 2, controls, WORTH_WINDOWED) == []
    assert choose_places([*chat, *message(5), *opening], len(chat) - 2, controls) == []
    long = [*message(4000), *message(100), *opening]
    assert len(choose_places(long, 0, controls)) == 9
    assert choose_places([7] * 600, 0, controls) == [512, 599]
