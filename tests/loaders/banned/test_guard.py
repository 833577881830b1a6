"""The guard of one reply: what is held back, where it goes back to, what it lets through, and when it gives up."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.banned.guard import BanGuard
from loaders.banned.pattern import compile_banned_strings
from loaders.base import Request, Token
from loaders.job import Job
from loaders.params import SamplingParams
from loaders.sampler import RequestSampler, make_sampler
from tests.fake_engine import EOS
from tests.loaders.engine.engines import small_tokenizer

TOKENIZER = small_tokenizer()
N = TOKENIZER.n_vocab


def sampler(banned: str, prompt: bytes = b"x", **knobs: object) -> tuple[RequestSampler, Job]:
    params = SamplingParams.parse({"do_sample": False, "banned_strings": banned, **knobs})
    job = Job(Request(list(prompt), params))
    return make_sampler(job, TOKENIZER, {EOS}, n_ctx=4096), job


def wanting(text: bytes) -> list[np.ndarray]:
    """Logits of a model that wants to say this, and as a second choice the same with an accent."""
    rows = np.zeros((len(text) + 1, N), np.float32)
    for row, byte in zip(rows, text, strict=False):
        row[byte], row[ord("_")] = 9, 5
    rows[len(text), EOS] = 9
    return list(rows)


def write(sampling: RequestSampler, rows: list[np.ndarray], most: int = 500) -> tuple[bytes, list[bytes]]:
    """The whole text, and the text that the reader had after each choice."""
    ids: list[int] = []
    shown, seen, chosen = b"", [], 0
    while len(ids) < len(rows):
        token = sampling.begin(rows[len(ids)])
        chosen += 1
        assert token is not None
        assert chosen < most
        del ids[len(ids) - sampling.dropped :]
        if token == EOS:
            break
        ids.append(token)
        shown += b"".join(each.data for each in sampling.deliver(Token(token, TOKENIZER.piece(token))))
        seen.append(shown)
        assert b"".join(map(TOKENIZER.piece, ids)).startswith(shown)
    return shown + b"".join(each.data for each in sampling.finish(Job(Request([1])).report)), seen


def test_the_first_token_is_replaced_and_nothing_of_the_string_is_shown() -> None:
    sampling, _ = sampler("cat")
    text, seen = write(sampling, wanting(b"a cat sat"))
    assert text == b"a _at sat"
    assert not any(each.endswith(b"c") for each in seen)


def test_a_string_that_does_not_come_to_its_end_is_shown() -> None:
    sampling, job = sampler("cat\ncar pool")
    text, seen = write(sampling, wanting(b"a car park"))
    assert text == b"a car park"
    assert seen[4] == b"a "
    sampling.finish(job.report)
    assert job.report.replaced == job.report.taken_back == 0


def test_overlapping_strings() -> None:
    for banned, wanted, got in (
        ("abcd\nbc", b"abcd", b"a_cd"), ("abab", b"ababab", b"_b_bab"), ("aab", b"aaab", b"a_ab"),
        ("ab\nb", b"xab", b"x__"), ("_b\nab", b"ab", b"\x00b"),
    ):  # fmt: skip
        assert write(sampler(banned)[0], wanting(wanted))[0] == got


def test_a_word_is_avoided_also_at_the_end() -> None:
    assert write(sampler(r"/\bcat\b/")[0], wanting(b"cats cat"))[0] == b"cats _at"
    rows = wanting(b"a cat")[:-1]  # cut off by the length limit
    sampling, _ = sampler(r"/\bcat\b/")
    assert write(sampling, rows)[0] == b"a "


def test_a_string_may_begin_in_the_prompt() -> None:
    assert write(sampler("once upon", prompt=b"Once up")[0], wanting(b"on a"))[0] == b"_n a"
    assert write(sampler(r"/\bon\b/", prompt=b"up")[0], wanting(b"on a"))[0] == b"on a"


@pytest.mark.parametrize(
    ("banned", "prompt", "said"),
    [
        (
            "a tapestry woven from the threads of her innermost feelings",
            "It was a tapestry woven from the threads of her innermost",
            " feelings",
        ),
        (
            "она почувствовала, как по её спине пробежал холодок",
            "И она почувствовала, как по её спине пробежал ",
            "холодок",
        ),
        ("ни слова больше", "x" * 3000 + "ни слова боль", "ше"),
        ("x" * 400, "x" * 399, "x"),
        ("/ж[^.]{300}[!]/", "ж" * 301, "!"),
    ],
)  # fmt: skip
def test_a_string_may_begin_far_back_in_the_prompt(banned: str, prompt: str, said: str) -> None:
    """As when a reply is continued, and each character takes several tokens."""
    sampling, job = sampler(banned, prompt=prompt.encode())
    text = write(sampling, wanting(said.encode()))[0].decode("utf-8", "replace")
    assert text != said
    assert text.count("_") == 1
    assert job.report.warnings == []


def test_half_a_character_at_the_prompts_end_is_completed_by_the_reply() -> None:
    assert write(sampler("né", prompt=b"n\xc3")[0], wanting(b"\xa9e"))[0] == b"_e"
    assert write(sampler("né", prompt=b"m\xc3")[0], wanting(b"\xa9e"))[0] == b"\xa9e"


def test_what_is_forced_is_let_through_with_a_note() -> None:
    sampling, job = sampler("cat")
    rows = wanting(b"a cat sat")
    for row in rows[2:5]:
        row[row < 9] = -np.inf
    text, _ = write(sampling, rows)
    assert text == b"a cat sat"
    job.report.warnings.clear()
    sampling, job = sampler(
        "cat", custom_token_bans=",".join(str(each) for each in range(N) if each not in list(b"a cts"))
    )
    assert b"cat" not in write(sampling, wanting(b"a cat sat"))[0]
    assert job.report.warnings == []


def test_hopeless_lists_end_and_say_so() -> None:
    sampling, job = sampler(r"/[\s\S]{30}/")
    rows = [np.random.default_rng(1).standard_normal(N).astype(np.float32)] * 200
    for row in rows:
        row[EOS] = -np.inf
    text, _ = write(sampling, rows, most=20_000)
    assert len(text) == 200
    assert "could not be avoided" in job.report.warnings[-1]


def count_draws(sampling: RequestSampler, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each time that the samplers draw a token."""
    draws: list[None] = []
    choose = sampling._chain.choose

    def counted(*given: Any) -> int:
        draws.append(None)
        return choose(*given)

    monkeypatch.setattr(sampling._chain, "choose", counted)
    return draws


@pytest.mark.parametrize("banned", ["/./", r"/[\s\S]/", "/[^~]/", r"/..|.$/"])
@pytest.mark.parametrize("length", [50, 300])
def test_lists_that_forbid_nearly_all_cost_a_limited_number_of_tries(
    banned: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling, job = sampler(banned, do_sample=True, seed=3)
    draws = count_draws(sampling, monkeypatch)
    row = np.random.default_rng(1).standard_normal(N).astype(np.float32)
    row[128:] = row[EOS] = row[ord("~")] = -np.inf
    text, _ = write(sampling, [row] * length, most=20_000)
    assert len(text) >= length - 1
    assert len(draws) <= 800 + 13 * length, "tries, tokens taken back, and those of the text"
    assert "could not be avoided" in job.report.warnings[-1]


@given(
    st.lists(st.text("ab_ ", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1.0]),
)
def test_no_text_has_a_banned_string_whatever_is_wanted(strings: list[str], seed: int, temperature: float) -> None:
    sampling, job = sampler(
        "\n".join(f'"{each}"' for each in strings), temperature=temperature, do_sample=True, seed=seed
    )
    dice = random.Random(seed)
    rows = []
    for _ in range(40):
        row = np.full(N, -4, np.float32)
        for byte in b"ab_ cd":
            row[byte] = dice.uniform(0, 8)
        rows.append(row)
    text, seen = write(sampling, rows)
    for shown in [text, *seen]:
        assert not any(each.encode() in shown.lower() for each in strings)
    assert not job.report.warnings
    assert all(later.startswith(earlier) for earlier, later in zip(seen, [*seen[1:], text], strict=True))


@pytest.mark.parametrize("knobs", [{}, {"mirostat_mode": 2}, {"dry_multiplier": 1, "xtc_probability": 0.5}])
def test_without_a_match_the_text_is_the_same(knobs: dict[str, object]) -> None:
    rows = list((np.random.default_rng(2).standard_normal((60, N)) * 2).astype(np.float32))
    texts = {write(sampler(banned, do_sample=True, seed=4, **knobs)[0], rows)[0] for banned in ("", "no such thing")}
    assert len(texts) == 1


def test_the_guard_counts_what_it_took_back() -> None:
    pattern = compile_banned_strings("cat", True)
    assert pattern
    guard = BanGuard(pattern, TOKENIZER, [EOS], [1], [])
    row = np.zeros(N, np.float32)
    for byte in b"ca":
        assert guard.offer(byte, row, row) is None
        guard.note(Token(byte, bytes([byte])))
    again = guard.offer(ord("t"), row, row)
    assert again
    assert (again.dropped, again.banned, again.attempt) == (2, {ord("c")}, 1)
    assert (guard.taken_back, guard.replaced, guard.held) == (2, 1, 0)
