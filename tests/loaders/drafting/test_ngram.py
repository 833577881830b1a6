"""Drafts from the text itself, compared with their plain definition, a search of the whole text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.drafting import ngram
from loaders.drafting.ngram import PIECE, SIZES, NgramDrafter


def searched(ids: list[int], most: int, shortest: int, min_hits: int) -> list[int] | None:
    """What followed the last earlier occurrence of the longest end that stood there often enough."""
    for size in [*(size for size in SIZES if size > shortest), shortest]:
        places = [at for at in range(size, len(ids)) if ids[at - size : at] == ids[len(ids) - size :]]
        if len(places) >= min_hits:
            found = ids[places[-1] :]
            while len(found) < most:
                found = found + found
            return found[:most]
    return None


texts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=12)


@given(texts, st.integers(1, 9), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
def test_it_finds_what_a_search_of_the_whole_text_finds(
    pieces: list[list[int]], most: int, shortest: int, min_hits: int
) -> None:
    drafter, ids = NgramDrafter(shortest, min_hits), list[int]()
    for piece in pieces:
        ids += piece
        draft = drafter.propose(ids, most)
        assert (draft.tokens if draft else None) == searched(ids, most, shortest, min_hits)


@given(texts, st.integers(0, 30), texts)
def test_a_text_that_has_gone_back_is_searched_as_it_is(
    before: list[list[int]], back: int, after: list[list[int]]
) -> None:
    drafter, ids = NgramDrafter(), [token for piece in before for token in piece]
    drafter.propose(ids, 4)
    del ids[max(len(ids) - back, 1) :]
    for piece in after:
        ids += piece
        draft = drafter.propose(ids, 4)
        if draft:  # never anything that does not stand there
            places = [at for at in range(2, len(ids)) if ids[at - 2 : at] == ids[-2:]]
            assert any(draft.tokens[: len(ids) - at] == ids[at : at + 4] for at in places)


class CountedText(list[int]):
    """Counts the tokens that are read from it."""

    read = 0

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        self.read += len(got) if isinstance(at, slice) else 1
        return got


@given(texts, st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(0, 3), min_size=1, max_size=9)), max_size=6))
def test_a_text_that_goes_back_again_and_again_has_nothing_left_of_what_was_cut(
    before: list[list[int]], returns: list[tuple[int, list[int]]]
) -> None:
    drafter, ids = NgramDrafter(), [token for piece in before for token in piece]
    for back, after in [(0, [1]), *returns]:
        del ids[max(len(ids) - back, 1) :]
        for token in after:
            ids.append(token)
            draft = drafter.propose(ids, 4)
            assert (draft.tokens if draft else None) == searched(ids, 4, 2, 1)


def test_going_back_costs_what_was_cut_and_not_the_whole_text() -> None:
    """Besides one comparison with what is known, which is a copy and no hashing."""
    drafter, ids = NgramDrafter(), CountedText(range(5000))
    for _ in range(0, len(ids), PIECE):
        drafter.propose(ids, 4)
    for back in (1, 5, 20):
        del ids[-back:]
        ids.append(7)
        ids.read = 0
        drafter.propose(ids, 4)
        assert ids.read < len(ids) + 40 * sum(SIZES)
        assert all(len(ends.last) <= len(ids) for ends in drafter._ends)


def test_a_long_text_is_indexed_in_pieces() -> None:
    """It is done on the thread that decodes: other replies wait for it."""
    drafter, ids = NgramDrafter(), CountedText([*range(10_000), 1, 2, 3])
    calls = 0
    while drafter.propose(ids, 4) is None or len(drafter._indexed) < len(ids) - 1:
        assert ids.read < 2 * PIECE * sum(SIZES)
        ids.read, calls = 0, calls + 1
    assert calls == len(ids) // PIECE
    draft = drafter.propose(ids, 2)
    assert draft
    assert draft.tokens == [4, 5]


def test_what_was_cut_is_taken_back_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context that is shifted loses its beginning, and most of what is known with it."""
    monkeypatch.setattr(ngram, "PIECE", 3)
    drafter, ids = NgramDrafter(), [*range(40), 1, 2]
    for _ in range(14):
        drafter.propose(ids, 4)
    known = len(drafter._indexed)
    assert known == len(ids) - 1
    del ids[:20]
    for _ in range(30):
        before = known
        drafter.propose(ids, 4)
        known = len(drafter._indexed)
        assert abs(before - known) <= 3
    assert known == len(ids) - 1
    assert drafter.propose(ids, 4) is None  # what followed "1 2" is gone
    ids += [30, 31]
    draft = drafter.propose(ids, 2)
    assert draft
    assert draft.tokens == [32, 33]


def test_longer_ends_are_more_trustworthy_kinds() -> None:
    drafter = NgramDrafter()
    short, long = drafter.propose([1, 2, 3, 9, 1, 2], 2), NgramDrafter().propose([*range(30), *range(29)], 1)
    assert short
    assert long
    assert (short.tokens, long.tokens) == ([3, 9], [29])
    assert long.kind < short.kind
