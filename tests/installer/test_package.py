"""The installer package: standard library only, Python 3.10 syntax, and imports in the documented order."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import installer
from tests import syntax

FOLDER = Path(installer.__file__ or "").parent
FILES = [FOLDER.parent / "one_click.py", *sorted(FOLDER.rglob("*.py"))]


def parsed(path: Path) -> ast.Module:
    return syntax.parsed(path, feature_version=(3, 10))


def imported(path: Path) -> set[str]:
    """Full names of modules; of `from installer.hardware import gpu` that is "installer.hardware.gpu"."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            folder = FOLDER.parent / module.replace(".", "/")
            own = module.partition(".")[0] == "installer" and folder.is_dir()
            names |= {f"{module}.{alias.name}" for alias in node.names} if own else {module}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER.parent).as_posix())
def test_nothing_but_the_standard_library_is_imported(path: Path) -> None:
    assert {name.partition(".")[0] for name in imported(path)} <= {*sys.stdlib_module_names, "installer"}
    assert ast.get_docstring(parsed(path))


def test_the_list_names_every_file_and_every_file_knows_only_earlier_ones() -> None:
    rows = [line.strip().split("   ")[0] for line in str(installer.__doc__).splitlines() if line.startswith("    ")]
    listed = " ".join(rows).split()
    files = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FILES[1:] if path.stem != "__init__"}
    assert sorted(listed) == sorted(files)
    for place, name in enumerate(listed):
        known = {found.removeprefix("installer.").replace(".", "/") for found in imported(FOLDER / f"{name}.py")}
        assert known & files <= set(listed[:place]), name
