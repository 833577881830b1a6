"""What must be installed: every difference from the last installation is noticed and named."""

from __future__ import annotations

from typing import Any

import pytest

from installer.environment.plan import what_to_install
from installer.layout import Layout
from tests.installer.stage import calls, finished


def test_a_finished_installation_needs_nothing(layout: Layout) -> None:
    state = finished(layout)
    assert what_to_install(layout, state, {}) == ("", False)
    assert what_to_install(layout, state, {"gpu": "N"}) == ("", False)
    assert calls(layout) == ["-I -c import sys; print('%d.%d' % sys.version_info[:2])"] * 2


@pytest.mark.parametrize(
    ("changes", "word", "new"),
    [
        ({"complete": False}, "did not finish", True),
        ({"root": "/elsewhere"}, "moved", True),
        ({"python": "3.10"}, "no longer works", True),
        ({"packages": ["gradio", "numpy"]}, "numpy", True),
        ({"fingerprint": "old"}, "requirements have changed", True),
        ({"gpu": "A"}, "another GPU", False),
        ({"processor": "another"}, "CPU has changed", False),
    ],
)
def test_every_difference_is_noticed_and_named(layout: Layout, changes: dict[str, Any], word: str, new: bool) -> None:
    reason, anew = what_to_install(layout, finished(layout, **changes), {"gpu": "N"})
    assert word in reason
    assert anew is new


def test_an_environment_that_is_gone_or_broken_is_made_anew(layout: Layout) -> None:
    state = finished(layout)
    layout.python.unlink()
    assert what_to_install(layout, state, {})[1]
    assert what_to_install(Layout(layout.root / "new"), {}, {}) == (
        "This is the first start: everything is installed once.",
        True,
    )
