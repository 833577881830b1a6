"""The sequences of a cache over a fake context: what is kept, moved and dropped, in any order of requests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.llamacpp.engine.prompt_cache import PromptCache
from loaders.llamacpp.engine.sequence_pool import SequencePool
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.llamacpp.native import first_needed_position
from loaders.prefix import common_prefix

_NONE = ", and no checkpoint is before it"


class FakeContext:
    """Counts cells, one byte of state a token; there are `cells` of them. Without checkpoints (test_checkpoints.py).

    `window`: layers look back so many tokens only, and what lies outside may be taken by other sequences at any time;
    a copy of a sequence lacks it. `recurrent`: a sequence cannot be cut, as its state has no past.
    """

    loses_past = recurrent = can_shift = False

    def __init__(self, cells: int, *, window: int = 0, recurrent: bool = False) -> None:
        self.cells = self.n_ctx = cells
        self.window, self.can_cut = window, not recurrent
        self.held: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.cleared = 0

    def decode(self, sequence: int, length: int) -> None:
        """The sequence has `length` tokens now; all others lose what is outside of their windows."""
        self.held[sequence] = length
        self.first.setdefault(sequence, 0)
        for other, held in self.held.items():
            if other != sequence:
                self.first[other] = max(self.first.get(other, 0), self.lost(held))

    def lost(self, length: int) -> int:
        return max(length - self.window, 0) if self.window else 0

    def first_held(self, sequence: int) -> int:
        if not self.held.get(sequence):
            return -1
        return self.first[sequence] if self.can_cut else self.held[sequence] - 1

    def serves(self, first: int, length: int) -> bool:
        return not self.can_cut or 0 <= first <= first_needed_position(length, self.window)

    def holds(self, sequence: int, length: int) -> bool:
        return self.held.get(sequence, 0) == length and self.serves(self.first_held(sequence), length)

    def forget(self, sequence: int, position: int = 0) -> bool:
        if not self.can_cut and 0 < position < self.held.get(sequence, 0):
            return False
        self.held[sequence] = min(self.held.get(sequence, 0), position)
        if not self.held[sequence]:
            self.first[sequence] = 0
        return True

    def fork(self, source: int, target: int, length: int) -> None:
        assert length <= self.held[source]
        assert self.can_cut or length == self.held[source]
        self.held[target], self.first[target] = length, self.first[source]

    def clear(self, *, data: bool = True) -> None:
        self.cleared += 1
        self.held.clear()
        self.first.clear()

    def state_size(self, sequence: int) -> int:
        return self.held.get(sequence, 0)

    def save(self, sequence: int) -> npt.NDArray[np.uint8]:
        return np.zeros(self.held[sequence], np.uint8)

    def restore(self, sequence: int, state: npt.NDArray[np.uint8]) -> bool:
        if sum(self.held.values()) + len(state) > self.cells:
            return False
        self.held[sequence], self.first[sequence] = len(state), self.lost(len(state))
        return True


def ask(context: FakeContext, sequences: SequencePool, ids: list[int]) -> tuple[int, str]:
    """A request: take, decode what is missing, release. Returns what was reused, and why."""
    sequence, reason = sequences.take(ids)
    reused = len(sequence.ids)
    assert context.held.get(sequence.id, 0) == reused
    assert sequence.ids == ids[:reused]
    # everything that the next token needs is held, in windowed and in recurrent models, too
    assert (
        not reused or not context.can_cut or context.first[sequence.id] <= first_needed_position(reused, context.window)
    )
    sequence.ids.extend(ids[reused:])
    context.decode(sequence.id, len(sequence.ids))
    sequences.release(sequence)
    while sum(context.held.values()) > context.cells:
        assert sequences.drop_idle()
    return reused, reason


def test_to_make_room_for_a_copy_does_not_push_that_copy_out() -> None:
    """Formerly, the copy was dropped by what made space for it, and the engine searched for it forever."""
    context = FakeContext(10_000)
    sequences = SequencePool(context, 4, shared=True, states=PromptCache(1000))  # type: ignore[arg-type]
    chats = [[k * 1000 + i for i in range(600)] for k in range(5)]
    for chat in chats:
        ask(context, sequences, chat)
    assert ask(context, sequences, [*chats[0], 5]) == (600, "from the prompt cache in memory")


@settings(max_examples=150, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 300)), max_size=30),
    cells=st.integers(300, 2000),
    capacity=st.sampled_from([0, 200, 1000, 10_000]),
    shared=st.booleans(),
    window=st.sampled_from([0, 0, 1, 20, 64, 128]),
    recurrent=st.booleans(),
)
def test_what_a_sequence_is_said_to_hold_it_holds(
    requests: list[tuple[int, int]], cells: int, capacity: int, shared: bool, window: int, recurrent: bool
) -> None:
    context = FakeContext(cells, window=window, recurrent=recurrent)
    sequences = SequencePool(context, 4, shared=shared, states=PromptCache(capacity))  # type: ignore[arg-type]
    for chat, length in requests:
        ask(context, sequences, [chat * 7 // 2, *range(chat, chat + length)])


@pytest.mark.parametrize(
    ("window", "recurrent", "reused", "reason"),
    [
        (0, False, 299, "from the prompt cache in memory"),
        (64, False, 0, "the model's sliding window no longer covers the point where the prompts differ" + _NONE),
        (0, True, 0, "this model's cache cannot be truncated to where the prompts differ" + _NONE),
    ],
)
def test_the_reason_says_why_a_chat_was_read_anew(window: int, recurrent: bool, reused: int, reason: str) -> None:
    """A chat of 500 tokens, others that push it out of the cache, and a return to its first 300."""
    context = FakeContext(600, window=window, recurrent=recurrent)
    sequences = SequencePool(context, 4, shared=True, states=PromptCache(10_000))  # type: ignore[arg-type]
    chat = list(range(500))
    ask(context, sequences, chat)
    ask(context, sequences, list(range(1000, 1300)))
    sequences.drop_idle()
    assert ask(context, sequences, chat[:300]) == (reused, reason)


def test_a_copy_that_a_longer_one_cannot_stand_for_is_kept() -> None:
    """With a window, a copy of a whole chat cannot be used for its beginning: the shorter copy can."""
    context = FakeContext(10_000, window=64)
    sequences = SequencePool(context, 4, shared=False, states=PromptCache(10_000))  # type: ignore[arg-type]
    chat = list(range(600))
    ask(context, sequences, chat[:300])
    ask(context, sequences, list(range(1000, 1100)))
    while sequences.drop_idle():
        pass
    ask(context, sequences, chat)
    while sequences.drop_idle():
        pass
    assert ask(context, sequences, [*chat[:300], 7]) == (300, "from the prompt cache in memory")


def test_while_one_runs_what_others_left_lies_in_memory_and_nothing_is_lost() -> None:
    """Otherwise llama.cpp's attention would read it at every step."""
    context = FakeContext(10_000)
    sequences = SequencePool(context, 12, shared=True, states=PromptCache(100_000))  # type: ignore[arg-type]
    chats = [[k * 1000 + i for i in range(600)] for k in range(10)]
    for chat in chats:
        ask(context, sequences, chat)
        assert sequences.held == 600
    running, _ = sequences.take([-1])
    assert sequences.held == 0
    sequences.release(running)
    for chat in chats[:-1]:
        assert ask(context, sequences, [*chat, 5]) == (600, "from the prompt cache in memory")


def begin(context: FakeContext, sequences: SequencePool, ids: list[int]) -> SequenceSlot:
    """A request that has read its prompt, and continues."""
    sequence, _ = sequences.take([*ids, -1])
    sequence.ids[:] = ids
    context.decode(sequence.id, len(ids))
    return sequence


@pytest.mark.parametrize("alike", [0, 1, 40], ids=lambda alike: f"{alike} tokens in common")
@pytest.mark.parametrize("running", [1, 2, 3])
def test_gaps_that_others_left_are_closed(running: int, alike: int) -> None:
    """Also if all begin alike, as chats with one template do."""
    context = FakeContext(10_000)
    sequences = SequencePool(context, 6, shared=True, states=PromptCache(100_000))  # type: ignore[arg-type]
    common = list(range(alike))
    long = common + list(range(1000, 4000))
    first = begin(context, sequences, long)
    chats = [common + list(range(1000 * k, 1000 * k + 300)) for k in range(5, 5 + running)]
    others = [begin(context, sequences, chat) for chat in chats]
    sequences.release(first)
    assert context.cleared == 1
    for other, chat in zip(others, chats, strict=True):
        assert (other.ids, context.held[other.id]) == (chat, len(chat))
        sequences.release(other)
    assert ask(context, sequences, [*long, 5]) == (len(long), "from the prompt cache in memory")


def test_where_cells_are_shared_there_is_no_gap() -> None:
    """Six replies to one long prompt use its cells once; when four of them end, nothing is moved."""
    context = FakeContext(10_000)
    sequences = SequencePool(context, 8, shared=True, states=PromptCache(100_000))  # type: ignore[arg-type]
    replies = [begin(context, sequences, [*range(1200), 5000 + k]) for k in range(6)]
    for reply in replies[:4]:
        sequences.release(reply)
    assert context.cleared == 0


@pytest.mark.parametrize("recurrent", [False, True])
def test_of_a_step_that_was_stopped_nothing_stays(recurrent: bool) -> None:
    """A recurrent state may have been overwritten, so all of it is dropped."""
    context = FakeContext(1000, recurrent=recurrent)
    sequences = SequencePool(context, 4, shared=True, states=PromptCache(0))  # type: ignore[arg-type]
    sequence, _ = sequences.take(list(range(300)))
    sequence.ids.extend(range(200))
    context.decode(sequence.id, 200)
    sequence.ids.extend(range(200, 300))
    sequences.take_back(sequence, 100, begun=True)
    assert sequence.ids == ([] if recurrent else list(range(200)))


def held_for_others(sequences: SequencePool, ids: tuple[int, ...]) -> int:
    """How many of these tokens are held without what careful requests have added, which later ones may replace."""
    own = (tuple(each.ids[: each.own]) for each in sequences._all)
    return max(sequences._states.longest(ids), *(common_prefix(each, ids) for each in own))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 400), st.integers(0, 3)), max_size=40),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_a_careful_request_takes_nothing_from_others(requests: list[tuple[bool, int, int, int]], shared: bool) -> None:
    """Whatever was held of an ordinary request's text before it is held after it."""
    context = FakeContext(1500)
    sequences = SequencePool(context, 4, shared=shared, states=PromptCache(900))  # type: ignore[arg-type]
    asked: list[tuple[int, ...]] = []
    for careful, chat, length, version in requests:
        ids = [chat * 10_000 + at for at in range(length)] + [chat * 10_000 + 5000 + version] * 60
        if not careful:
            ask(context, sequences, ids)
            asked.append(tuple(ids))
            continue
        if not sequences.spares(ids, 20):
            continue
        before = [held_for_others(sequences, each) for each in asked]
        sequence, _ = sequences.take(ids, 20, careful=True)
        sequence.ids.extend([*ids[len(sequence.ids) :], *range(90_000, 90_020)])
        context.decode(sequence.id, len(sequence.ids))
        sequences.release(sequence, careful=True)
        assert not shared or sequences._cells <= context.cells
        after = [held_for_others(sequences, each) for each in asked]
        assert all(now >= was for now, was in zip(after, before, strict=True))


def test_what_was_computed_for_nobody_is_dropped_first() -> None:
    context = FakeContext(10_000)
    sequences = SequencePool(context, 3, shared=True, states=PromptCache(0))  # type: ignore[arg-type]
    chats = [[1000 * number + at for at in range(1, 200)] for number in range(4)]
    ask(context, sequences, chats[0])
    ahead, _ = sequences.take(chats[1], careful=True)
    ahead.ids.extend(chats[1])
    context.decode(ahead.id, len(ahead.ids))
    sequences.release(ahead, careful=True)
    ask(context, sequences, chats[2])
    ask(context, sequences, chats[3])
    assert sequences.known(tuple(chats[1])) == 0


@pytest.mark.parametrize(("memory", "held"), [(2000, True), (700, False)])
def test_of_a_full_chat_the_next_prompt_can_be_read_ahead(memory: int, held: bool) -> None:
    """Its history was cut, so it shares only a beginning with what fills the cache, which goes to memory as it is."""
    context = FakeContext(1000)
    sequences = SequencePool(context, 4, shared=True, states=PromptCache(memory))  # type: ignore[arg-type]
    full = [*range(50), *range(100, 1000)]
    ask(context, sequences, full)
    cut = [*range(50), *range(400, 1000), 7]
    assert sequences.spares(cut, 1) == held
    if not held:
        return
    sequence, _ = sequences.take(cut, 1, careful=True)
    assert sequence.ids == full[:50]
    sequence.ids[:] = [*cut, 8]
    context.decode(sequence.id, len(sequence.ids))
    assert sum(context.held.values()) <= context.cells
    sequences.release(sequence, careful=True)
    assert sequences.known(tuple(full)) == len(full)
    assert ask(context, sequences, [*cut[:-1], 9, 9]) == (len(cut) - 1, "from the cache")
