"""Imports gradio without generating its editor stubs: it writes a .pyi file for each of its components at every import,
which doubles the import time.

It must not know the page. A gradio without that function is imported normally.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_MODULE, _FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, _FUNCTION):
                setattr(module, _FUNCTION, _nothing)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _nothing(*_: object) -> None:
    """Replaces gradio's function."""


def skip_gradio_stubs() -> None:
    """Skip the stubs from now on; no effect if gradio has already been imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
