"""A token's bytes from its string, as the library that made the vocabulary reads it."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from loaders.token_strings import is_byte_level, token_bytes


@given(st.text())
def test_byte_level_strings_give_the_bytes_back(text: str) -> None:
    pre = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    strings = [string for string, _ in pre.pre_tokenize_str(text)]
    assert b"".join(token_bytes(each, byte_level=True) for each in strings) == text.encode()


@pytest.mark.parametrize(
    ("string", "data"),
    [("\u2581a", b" a"), ("<0x0A>", b"\n"), ("<0xF0>", b"\xf0"), ("é", "é".encode()), ("<0x0A>b", b"<0x0A>b")],
)
def test_strings_of_sentencepiece(string: str, data: bytes) -> None:
    assert token_bytes(string, byte_level=False) == data


def test_the_kind_is_known_by_its_space() -> None:
    assert [is_byte_level(each) for each in ("Ġa", "\u2581a", " a", "")] == [True, False, None, None]
