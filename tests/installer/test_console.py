"""The words that count as an answer."""

from __future__ import annotations

import pytest

from installer.console import is_no


@pytest.mark.parametrize("text", ["no", "N", "false", "0", "f", "OFF", " no "])
def test_the_words_that_mean_no(text: str) -> None:
    assert is_no(text)
    assert not is_no("yes")
    assert not is_no("")
