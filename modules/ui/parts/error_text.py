"""An error's sentence in the page's language, if its catalog has one; the API and the log have the English one."""

from __future__ import annotations

from modules.ui.parts.sentences import translated
from modules.ui.texts import current_texts, tr


def error_text(error: BaseException) -> str:
    """The sentence for this error, with what it quotes (a reason, an advice)."""
    told = getattr(error, "told", None)
    if not told or not current_texts().has(f"error.{told[0]}"):
        return translated(error)
    said = {name: translated(value) if isinstance(value, str) else value for name, value in told[1].items()}
    return tr(f"error.{told[0]}", **said)
