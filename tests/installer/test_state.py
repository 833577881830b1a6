"""state.json, whole and damaged."""

from __future__ import annotations

import pytest

from installer.layout import Layout
from installer.state import read_state


@pytest.mark.parametrize("text", ["", "{", "[]", '"complete"', "\xff"])
def test_a_damaged_state_counts_as_none(layout: Layout, text: str) -> None:
    layout.files.mkdir()
    layout.state.write_text(text, "latin-1")
    assert read_state(layout) == {}
