"""From files on disk to a running model. LOADERS and `loader_named` are those of `registry`.

That is imported when it is first asked for: the small processes that test files and run grammars and templates start
often, and must not build the options of all loaders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.registry import LOADERS, loader_named

__all__ = ["LOADERS", "loader_named"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from loaders import registry

        return getattr(registry, name)
