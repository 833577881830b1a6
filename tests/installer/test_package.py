"""The package itself: the standard library alone, in Python 3.10's grammar, and arrows that point as it says."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import installer

FOLDER = Path(installer.__file__ or "").parent
FILES = [FOLDER.parent / "one_click.py", *sorted(FOLDER.glob("*.py"))]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), feature_version=(3, 10))


def imported(path: Path) -> set[str]:
    """Full names; of `from installer import gpu` that is "installer.gpu"."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packaged = [f"installer.{alias.name}" for alias in node.names]
            names |= set(packaged) if node.module == "installer" else {node.module or ""}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_but_the_standard_library_is_imported(path: Path) -> None:
    assert {name.partition(".")[0] for name in imported(path)} <= {*sys.stdlib_module_names, "installer"}
    assert ast.get_docstring(parsed(path))


def test_the_list_names_every_file_and_every_file_knows_only_earlier_ones() -> None:
    rows = [line.strip().split("   ")[0] for line in str(installer.__doc__).splitlines() if line.startswith("    ")]
    listed = " ".join(rows).split()
    assert sorted(listed) == sorted(path.stem for path in FILES[1:] if path.stem != "__init__")
    for place, name in enumerate(listed):
        known = {found.partition(".")[2] for found in imported(FOLDER / f"{name}.py") if found.startswith("installer.")}
        assert known <= set(listed[:place]), name
