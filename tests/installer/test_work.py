"""What must be done: every difference to the last installation is noticed, and named."""

from __future__ import annotations

from typing import Any

import pytest

from installer.layout import Layout
from installer.work import work_to_do
from tests.installer.stage import calls, finished


def test_a_finished_installation_needs_nothing(layout: Layout) -> None:
    state = finished(layout)
    assert work_to_do(layout, state, {}) == ("", False)
    assert work_to_do(layout, state, {"gpu": "N"}) == ("", False)
    assert calls(layout) == ["-I -c import sys; print('%d.%d' % sys.version_info[:2])"] * 2


@pytest.mark.parametrize(
    ("changes", "word", "new"),
    [
        ({"complete": False}, "did not finish", True),
        ({"root": "/elsewhere"}, "moved", True),
        ({"python": "3.10"}, "no longer runs", True),
        ({"packages": ["gradio", "numpy"]}, "numpy", True),
        ({"fingerprint": "old"}, "requirements changed", True),
        ({"gpu": "A"}, "graphics card", False),
        ({"processor": "another"}, "another processor", False),
    ],
)
def test_every_difference_is_noticed_and_named(layout: Layout, changes: dict[str, Any], word: str, new: bool) -> None:
    reason, anew = work_to_do(layout, finished(layout, **changes), {"gpu": "N"})
    assert word in reason
    assert anew is new


def test_an_environment_that_is_gone_or_broken_is_made_anew(layout: Layout) -> None:
    state = finished(layout)
    layout.python.unlink()
    assert work_to_do(layout, state, {})[1]
    assert work_to_do(Layout(layout.root / "new"), {}, {}) == (
        "This is the first start: everything is installed now, once.",
        True,
    )
