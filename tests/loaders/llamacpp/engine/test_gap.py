"""Prompts whose oldest messages were left out: what follows them is moved in the cache, if the option allows it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import loader_named
from loaders.base import Model, Request
from loaders.llamacpp.engine.gap import Gap, find_gap
from loaders.params import SamplingParams
from tests.conftest import keep_going

TOKENS = st.lists(st.integers(0, 5), max_size=200)


@given(beginning=TOKENS, dropped=TOKENS, rest=TOKENS, more=TOKENS)
def test_without_the_gap_both_begin_alike(
    beginning: list[int], dropped: list[int], rest: list[int], more: list[int]
) -> None:
    held, wanted = beginning + dropped + rest, beginning + rest + more
    gap = find_gap(held, wanted)
    left = held[: gap.start] + held[gap.start + gap.dropped :]
    assert left[: gap.length] == wanted[: gap.length]
    assert gap == Gap() or gap.length >= gap.start + 32


def test_the_gap_that_was_made_is_found() -> None:
    words = list(range(1000))
    assert find_gap(words, words[:50] + words[300:]) == Gap(50, 250, 750)
    assert find_gap(words, words[:50] + words[980:]) == Gap()  # too short to be sure
    assert find_gap(words, words) == Gap()
    assert find_gap([1, 2, *words], words[500:]) == Gap(0, 502, 500)


def test_in_what_repeats_itself_only_some_places_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("loaders.llamacpp.engine.gap.common_prefix", lambda *lists: compared.append(lists) or 0)
    assert find_gap([7] * 5000, [7] * 5000).length == 0
    assert len(compared) == 51


@pytest.fixture(scope="module")
def shifting(demo_model_path: Path) -> Iterator[Model]:
    loader = loader_named("llama.cpp")
    options = {"n_ctx": 512, "threads": 1, "context_shift": True, "parallel": 1}
    with loader.load(demo_model_path, loader.Options.parse(options), keep_going) as model:
        yield model


def test_history_that_was_cut_is_not_read_again(shifting: Model) -> None:
    def ask(ids: list[int], new: int = 20) -> tuple[int, str]:
        stream = shifting.generate(Request(ids, SamplingParams(do_sample=False, ban_eos_token=True), new))
        list(stream)
        return stream.report.reused_tokens, stream.report.reuse_reason

    draw = random.Random(1)
    system, old, kept, said = ([draw.randrange(1000, 40000) for _ in range(count)] for count in (40, 150, 280, 30))
    ask([*system, *old, *kept])
    reused, reason = ask([*system, *kept, *said])
    assert (reused, reason) == (320, "from the cache, moved to where older messages were left out")
    assert ask([*system, *kept, *said, 7])[0] == 350  # and from there on as ever
    # what would have fitted was left out for another reason, so it is read as it is now
    short = [*system, *old, *kept[:100]]
    ask(short)
    assert ask([*system, *kept[:100], *said])[0] <= 140
