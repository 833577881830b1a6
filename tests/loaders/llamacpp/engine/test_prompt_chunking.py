"""The size of a prompt's chunks: on machines of many kinds, and after disturbances."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.llamacpp.engine.prompt_chunking import MAX_SLOWDOWN, MAX_WAIT, PromptChunker, StepCost

#: Seconds per step, per row, and per row and cell: a GPU, a laptop, a large model on a CPU.
MACHINES = {
    "card": (0.01, 1e-4, 1e-9),
    "laptop": (0.012, 0.0055, 3e-7),
    "large model": (0.2, 0.06, 5e-6),
    "deep attention": (0.012, 0.0055, 8e-6),
    "no fixed part": (0.0, 0.005, 0.0),
}


class Machine:
    """Takes as long for a step as defined, with noise; the next `slow` steps are ten times as slow."""

    def __init__(self, name: str, pace: PromptChunker, noise: float = 0.1) -> None:
        self.a, self.b, self.c = MACHINES[name]
        self.pace, self.noise, self.slow, self.chance = pace, noise, 0, random.Random(5)

    def true(self, rows: int, cells: int) -> float:
        return self.a + self.b * rows + self.c * rows * cells

    def step(self, rows: int, cells: int) -> float:
        seconds = self.true(rows, cells) * (1 + self.noise * self.chance.random())
        if self.slow:
            self.slow, seconds = self.slow - 1, seconds * 10
        self.pace.cost.note(rows, cells, seconds)
        return seconds

    def beside(self, replies: int, prompt: int, cells: int = 0) -> list[tuple[int, int]]:
        """The chunks of a prompt next to this many replies, each with the cells in use before it."""
        pieces = []
        while prompt:
            piece = min(self.pace.piece(replies, cells), prompt)
            self.step(replies + piece, cells + piece)
            pieces.append((piece, cells))
            prompt, cells = prompt - piece, cells + piece + replies
        return pieces


@pytest.mark.parametrize("name", MACHINES)
def test_whole_batches_while_nobody_is_answered_whatever_was_measured(name: str) -> None:
    pace = PromptChunker(512)
    machine = Machine(name, pace)
    machine.slow = 3
    for cells in range(0, 6000, 512):
        assert pace.piece(0, cells) == 512
        machine.step(512, cells)


@pytest.mark.parametrize("replies", [1, 3])
@pytest.mark.parametrize("depth", [0, 3000])
@pytest.mark.parametrize("name", MACHINES)
def test_beside_replies_a_piece_costs_their_share_and_no_less_than_it_may(name: str, depth: int, replies: int) -> None:
    pace = PromptChunker(512)
    machine = Machine(name, pace)
    machine.step(200, 200)
    for i in range(40):
        machine.step(1, 200 + i)
    pieces = machine.beside(replies, 2000, depth)
    shares = [
        machine.true(replies + piece, cells + piece) / max(MAX_SLOWDOWN * machine.true(replies, cells), MAX_WAIT)
        for piece, cells in pieces[1:-1]
    ]
    assert max(shares) < 3
    assert statistics.median(shares) < 1.6
    assert statistics.median(shares) > 0.4 or max(piece for piece, _ in pieces) == 512


@pytest.mark.parametrize("name", MACHINES)
def test_slow_steps_are_forgotten(name: str) -> None:
    pace = PromptChunker(512)
    machine = Machine(name, pace)
    machine.step(200, 200)
    for i in range(40):
        machine.step(1, 200 + i)
    usual = statistics.median(piece for piece, _ in machine.beside(1, 2000)[2:])
    machine.slow = 4
    machine.beside(1, 1000)
    assert statistics.median(piece for piece, _ in machine.beside(1, 3000)[4:]) >= usual / 2


def test_what_is_not_known_is_tried_with_a_small_piece() -> None:
    pace = PromptChunker(512)
    assert pace.piece(1, 0) == 32
    pace.cost.note(1, 100, 0.02)
    assert pace.piece(1, 100) == 32
    assert PromptChunker(8).piece(1, 0) == 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8192), st.integers(0, 100_000), st.floats(1e-6, 100)), max_size=40))
def test_any_measurements_give_a_cost_that_grows_and_a_piece_within_bounds(
    steps: list[tuple[int, int, float]],
) -> None:
    cost, pace = StepCost(), PromptChunker(512)
    for rows, cells, seconds in steps:
        cost.note(rows, cells, seconds)
        pace.cost.note(rows, cells, seconds)
    assert 0 <= cost.seconds(1, 10) <= cost.seconds(2, 10) <= cost.seconds(2, 5000)
    assert 1 <= pace.piece(2, 1000) <= 512
