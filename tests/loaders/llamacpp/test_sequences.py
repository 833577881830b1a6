"""The sequences of a cache over a fake context: what is kept, moved and given up, whatever the order of requests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.llamacpp.sequences import Sequences
from loaders.llamacpp.states import SavedStates


class FakeContext:
    """Counts cells, one byte of state a token; there are `cells` of them."""

    can_cut = True

    def __init__(self, cells: int) -> None:
        self.cells = self.n_ctx = cells
        self.held: dict[int, int] = {}

    def forget(self, sequence: int, position: int = 0) -> bool:
        self.held[sequence] = min(self.held.get(sequence, 0), position)
        return True

    def fork(self, source: int, target: int, length: int) -> None:
        assert length <= self.held[source]
        self.held[target] = length

    def state_size(self, sequence: int) -> int:
        return self.held.get(sequence, 0)

    def save(self, sequence: int) -> npt.NDArray[np.uint8]:
        return np.zeros(self.held[sequence], np.uint8)

    def restore(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        if sum(self.held.values()) + len(state) > self.cells:
            return False
        self.held[sequence] = len(state)
        return True


def ask(context: FakeContext, sequences: Sequences, ids: list[int]) -> tuple[int, str]:
    """What a request does: take, decode what is missing, release. Returns what was reused, and why."""
    sequence, reason = sequences.take(ids)
    assert context.held.get(sequence.id, 0) == len(sequence.ids)
    reused = len(sequence.ids)
    assert sequence.ids == ids[:reused]
    sequence.ids.extend(ids[reused:])
    context.held[sequence.id] = len(sequence.ids)
    sequences.release(sequence)
    while sum(context.held.values()) > context.cells:
        assert sequences.drop_idle()
    return reused, reason


def test_to_make_room_for_a_copy_does_not_push_that_copy_out() -> None:
    """Was: the copy was pushed out by what made room for it, and the engine looked for it for ever."""
    context = FakeContext(10_000)
    sequences = Sequences(context, 4, shared=True, states=SavedStates(1000))  # type: ignore[arg-type]
    chats = [[k * 1000 + i for i in range(600)] for k in range(5)]
    for chat in chats:
        ask(context, sequences, chat)
    assert ask(context, sequences, [*chats[0], 5]) == (600, "from the copy in memory")


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 300)), max_size=30),
    cells=st.integers(300, 2000),
    capacity=st.sampled_from([0, 200, 1000, 10_000]),
    shared=st.booleans(),
)
def test_what_a_sequence_is_said_to_hold_it_holds(
    requests: list[tuple[int, int]], cells: int, capacity: int, shared: bool
) -> None:
    context = FakeContext(cells)
    sequences = Sequences(context, 4, shared=shared, states=SavedStates(capacity))  # type: ignore[arg-type]
    for chat, length in requests:
        ask(context, sequences, [chat * 7 // 2, *range(chat, chat + length)])
