"""Syntax trees of the program's own files, for tests that read code."""

from __future__ import annotations

import ast
import gc
from pathlib import Path
from typing import Any


def parsed(path: Path, **how: Any) -> ast.Module:
    """The tree of a file; `how` is passed on to ast.parse.

    CPython 3.11 counts the depth of a tree in one place for all threads: where a garbage collection inside ast.parse
    lets another thread parse, it fails with "AST constructor recursion depth mismatch". So none runs meanwhile.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_bytes(), **how)
    finally:
        if enabled:
            gc.enable()
