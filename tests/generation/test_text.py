"""Bytes to text: however they are cut, the text is the same, and no part of a stop string is ever shown."""

from __future__ import annotations

import codecs
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InvalidInput
from modules.generation.text import TextAssembler, check_stop_strings


def whole(data: bytes, stop: list[str]) -> str:
    """The simple definition: decode everything, cut before the first position where a stop string begins."""
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(data)  # not the half of a character at the end
    places = [text.find(string) for string in stop if string and string in text]
    return text[: min(places)] if places else text


def chunked(data: bytes, cuts: list[int], stop: list[str]) -> tuple[list[str], TextAssembler]:
    assembler = TextAssembler(stop)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parts = [assembler.push(data[start:end]) for start, end in pairwise(edges)]
    return [*parts, assembler.finish()], assembler


# a small alphabet, so that stop strings occur completely, partly and inside each other
TEXT = st.text("ab\n:é", max_size=30)
STOP = st.lists(st.text("ab\n:é", max_size=4), max_size=4) | st.lists(st.text("ab\n:é", max_size=9), max_size=60)


@settings(max_examples=300)
@given(TEXT, st.lists(st.integers(0, 100)), STOP)
def test_any_chunking_gives_the_whole(text: str, cuts: list[int], stop: list[str]) -> None:
    data = text.encode()
    parts, assembler = chunked(data, cuts, stop)
    assert "".join(parts) == whole(data, stop)
    assert (assembler.stopped_by is not None) == any(string and string in text for string in stop)


@settings(max_examples=200)
@given(st.binary(max_size=40), st.lists(st.integers(0, 100)), st.lists(st.text(max_size=3), max_size=3))
def test_any_bytes_give_the_whole(data: bytes, cuts: list[int], stop: list[str]) -> None:
    """Invalid UTF-8 becomes U+FFFD, in the same places however it is cut; never a lone surrogate."""
    parts, _ = chunked(data, cuts, stop)
    assert "".join(parts) == whole(data, stop)
    "".join(parts).encode()


@settings(max_examples=200)
@given(TEXT, STOP)
def test_which_stop_string_it_was_does_not_depend_on_the_chunks(text: str, stop: list[str]) -> None:
    data = text.encode()
    _, at_once = chunked(data, [], stop)
    _, bytewise = chunked(data, list(range(len(data))), stop)
    assert at_once.stopped_by == bytewise.stopped_by


@settings(max_examples=200)
@given(TEXT, STOP)
def test_nothing_is_ever_taken_back(text: str, stop: list[str]) -> None:
    """What is shown after each byte is a prefix of the final text."""
    final = whole(text.encode(), stop)
    assembler, shown = TextAssembler(stop), ""
    for byte in text.encode():
        shown += assembler.push(bytes([byte]))
        assert final.startswith(shown)


def test_half_a_character_at_the_end_is_left_out() -> None:
    for text in ("ab👩", "日", "é", "a\u200d👧"):
        data = text.encode()
        for cut in range(1, len(text[-1].encode())):
            parts, _ = chunked(data[:-cut], [], [])
            assert "".join(parts) == text[:-1]


def test_the_earliest_place_wins_not_the_order_of_the_list() -> None:
    assembler = TextAssembler(["later", "soon"])
    assert assembler.push(b"it is soon and later") == "it is "
    assert assembler.stopped_by == "soon"


def test_an_earlier_one_that_is_not_complete_yet_is_waited_for() -> None:
    assembler = TextAssembler(["abcd", "bc"])
    assert assembler.push(b"xabc") == "x"
    assert assembler.stopped_by is None
    assert assembler.push(b"d") == ""
    assert assembler.stopped_by == "abcd"
    other = TextAssembler(["abcd", "bc"])
    assert other.push(b"xabc") + other.push(b"!") == "xa"
    assert other.stopped_by == "bc"


def test_what_was_held_back_comes_when_it_was_no_stop_string() -> None:
    assembler = TextAssembler(["\nYou:"])
    assert assembler.push(b"Hello\nYo") == "Hello"
    assert assembler.push(b"gi") == "\nYogi"
    assert assembler.push(b"\nYou") == ""
    assert assembler.finish() == "\nYou"
    assert assembler.finish() == ""


def test_a_stop_string_has_a_longest_length() -> None:
    """What could become one is searched at each token."""
    assert check_stop_strings(["", "a" * 1000]) == ["", "a" * 1000]
    with pytest.raises(InvalidInput, match=r"may have 1,000 characters; 'bbb.* has 1,001"):
        check_stop_strings(["a", "b" * 1001])


@pytest.mark.parametrize("text", ["é", "€", "😀"])
def test_a_character_comes_when_its_last_byte_is_there(text: str) -> None:
    assembler = TextAssembler()
    parts = [assembler.push(bytes([byte])) for byte in text.encode()]
    assert parts == [""] * (len(parts) - 1) + [text]
