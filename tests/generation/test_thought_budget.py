"""Reasoning that is ended from outside: after its budget, with the family's mark, once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modules.families.reply_format import ReplyFormat
from modules.families.table import family_named
from modules.generation.thought_budget import ThoughtBudget
from tests.fake_engine import ByteTokenizer


def written(reading: ReplyFormat, says: str, budget: int, length: int) -> str:
    """The output of a model that writes one letter after another, by the logits."""
    tokenizer = ByteTokenizer()
    end = ThoughtBudget(reading, tokenizer, budget)  # type: ignore[arg-type]
    ids = [72]
    for number in range(length):
        logits = np.zeros(300, np.float32)
        logits[says.encode()[number % len(says)]] = 1
        ids.append(int(end(ids, logits).argmax()))
    return bytes(ids[1:]).decode()


def test_it_is_closed_after_its_budget_and_only_once() -> None:
    text = written(ReplyFormat(family_named("qwen"), "<think>\n"), "a", 5, 40)
    assert text == "aaaaa\n</think>\n\n" + "a" * (40 - 16)
    assert written(ReplyFormat(family_named("qwen"), "<think>\n"), "a", 0, 11) == "\n</think>\n\n"
    assert written(ReplyFormat(family_named("mistral")), "[THINK]abcdef", 3, 24).startswith("[THINK]abc\n[/THINK]\n\n")
    harmony = written(
        ReplyFormat(family_named("gpt_oss"), "<|start|>assistant"), "<|channel|>analysis<|message|>abcdefgh", 2, 88
    )
    assert "ab<|end|><|start|>assistant<|channel|>final<|message|>" in harmony


def test_a_reply_that_goes_back_is_counted_anew() -> None:
    tokenizer = ByteTokenizer()
    end = ThoughtBudget(ReplyFormat(family_named("qwen"), "<think>\n"), tokenizer, 6)  # type: ignore[arg-type]
    logits = np.zeros(300, np.float32)
    prompt = [72]
    for text in (b"", b"a", b"ab", b"abc", b"abcd", b"ax", b"axy", b"axyz", b"axyz1"):
        assert end([*prompt, *text], logits) is logits
    assert end.patience() == 1
    assert end([*prompt, *b"axyz12"], logits).argmax() == ord("\n")


def test_what_thinks_nothing_is_left_alone() -> None:
    assert written(ReplyFormat(family_named("qwen")), "a", 0, 9) == "a" * 9


def test_it_is_ended_when_somebody_says_so() -> None:
    end = ThoughtBudget(ReplyFormat(family_named("qwen"), "<think>\n"), ByteTokenizer())  # type: ignore[arg-type]
    logits = np.zeros(300, np.float32)
    logits[97] = 1
    ids, told = [72], []
    for number in range(20):
        if number == 4:
            told.append(end.end())
        ids.append(int(end(ids, logits).argmax()))
    assert bytes(ids[1:]) == b"aaaa\n</think>\n\n" + b"a" * 5
    assert told == [True]
    assert not end.end()


def test_an_answer_is_not_looked_at_for_long() -> None:
    end = ThoughtBudget(ReplyFormat(family_named("qwen")), ByteTokenizer(), 0)  # type: ignore[arg-type]
    ids = [72]
    for letter in b"Hello <think>hm":
        logits = np.zeros(300, np.float32)
        logits[letter] = 1
        ids.append(int(end(ids, logits).argmax()))
    assert bytes(ids[1:]) == b"Hello <think>hm"
    assert not end.thinking


def test_it_is_closed_with_the_mark_of_what_is_open() -> None:
    """Also if the template does not contain the marks that the model writes."""
    assert written(ReplyFormat(), "<think>abcdef", 3, 24).startswith("<think>abc\n</think>\n\n")
    assert written(ReplyFormat(), "[THINK]abcdef", 3, 24).startswith("[THINK]abc\n[/THINK]\n\n")


@given(
    st.integers(0, 8), st.integers(0, 30), st.lists(st.integers(1, 40), max_size=4), st.sampled_from(["a", "ab1", "é"])
)
def test_a_thought_is_closed_however_far_the_reply_goes_back(
    budget: int, length: int, returns: list[int], says: str
) -> None:
    """Also across the mark that was forced: the text is that of a reply which never went there."""
    tokenizer = ByteTokenizer()
    reading = ReplyFormat(family_named("qwen"), "<think>\n")
    end = ThoughtBudget(reading, tokenizer, budget)  # type: ignore[arg-type]
    ids = [72]

    def write(end: ThoughtBudget, ids: list[int], count: int) -> None:
        for _ in range(count):
            logits = np.zeros(300, np.float32)
            logits[says.encode()[len(ids) % len(says.encode())]] = 1
            changed = end(ids, logits)
            if changed is not logits:
                forced.add(len(ids))
            ids.append(int(changed.argmax()))

    forced: set[int] = set()
    write(end, ids, length)
    for back in returns:
        place = max(len(ids) - back, 1)
        if place < len(ids) and place not in forced:  # nothing else is possible there
            del ids[place:]
            forced = {each for each in forced if each < place}
            ids.append(ord("x"))  # what replaces the first token of the banned string
        write(end, ids, 30)
    write(end, ids, 30)
    fresh = ThoughtBudget(reading, tokenizer, budget)  # type: ignore[arg-type]
    for place in range(1, len(ids)):
        logits = np.zeros(300, np.float32)
        logits[ids[place]] = 1
        assert fresh(ids[:place], logits).argmax() == ids[place], bytes(ids[1:])
    assert b"</think>" in bytes(ids[1:])
