"""A compiler is believed only when it has compiled something."""

from __future__ import annotations

import pytest

from installer.compiler import accepted, works
from installer.layout import Layout


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_a_missing_or_broken_compiler_is_noticed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert not works(layout)


def test_only_options_that_both_compilers_know_are_used(layout: Layout) -> None:
    assert accepted(layout, ["-O1", "-mno-such-thing", "-O2"]) == ["-O1", "-O2"]
