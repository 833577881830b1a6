"""Prompt lookup compared with its plain definition, a search of the whole text."""

from __future__ import annotations

import random

import pytest

from loaders.hf_common.prompt_lookup import PromptLookup


def searched(ids: list[int], count: int) -> list[int]:
    """What followed the last earlier occurrence of the text's last three, two or one tokens."""
    for length in (3, 2, 1):
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == ids[-length:]:
                return ids[start + length : start + length + max(count, 0)]
    return []


@pytest.mark.parametrize("words", [1, 2, 5, 40])
def test_it_finds_what_a_search_of_the_whole_text_finds(words: int) -> None:
    chance = random.Random(words)
    for count in (0, 1, 7):
        lookup, ids = PromptLookup(), list[int]()
        for _ in range(120):
            ids += [chance.randrange(words) for _ in range(chance.choice((0, 1, 1, 1, 6)))]
            assert lookup.propose(ids, count) == searched(ids, count)


def test_a_long_text_is_read_once() -> None:
    class Counted(list[int]):
        read = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            self.read += len(found) if isinstance(key, slice) else 1
            return found

    ids, lookup = Counted(range(5000)), PromptLookup()
    lookup.propose(ids, 4)
    ids.append(7)
    ids.read = 0
    assert lookup.propose(ids, 4) == [8, 9, 10, 11]
    assert ids.read < 40
