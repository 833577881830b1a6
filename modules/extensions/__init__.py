"""Extensions: scripts of the user's that change what goes into the model and what comes out, by functions of fixed names.

A script that was written for the original program runs here. The services below call `Extensions`; nobody else knows
that there are scripts. docs/extensions.md is the tutorial.
"""

from modules.extensions.context import HookContext
from modules.extensions.extension import Extension
from modules.extensions.service import Extensions

__all__ = ["Extension", "Extensions", "HookContext"]
