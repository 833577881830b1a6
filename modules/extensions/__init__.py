"""Extensions: users' scripts whose functions (hooks) change prompts and replies.

Scripts written for the original program run here. The services call `Extensions`; no other module knows that there are
scripts. docs/extensions.md is the tutorial.
"""

from modules.extensions.context import HookContext
from modules.extensions.extension import Extension
from modules.extensions.service import INCLUDED, Extensions

__all__ = ["INCLUDED", "Extension", "Extensions", "HookContext"]
