"""Extensions: users' scripts whose functions (hooks) change prompts and replies.

Scripts written for the original program run here. The services call `Extensions`; no other module knows that there are
scripts. docs/extensions.md is the tutorial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modules.extensions.context import HookContext
from modules.extensions.extension import Extension
from modules.extensions.service import INCLUDED, Extensions

__all__ = ["INCLUDED", "Extension", "Extensions", "HookContext"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What scripts for the original program use of its module of this name."""
        from modules.extensions.compat import package_attribute

        return package_attribute(__name__, name)
