"""An error's sentence in the page's language, if its catalog has one; the API and the log have the English one."""

from __future__ import annotations

from modules.ui.texts import current_texts, tr


def error_text(error: BaseException) -> str:
    """The sentence for this error. What it quotes (a reason, an advice) stays as the service wrote it."""
    told = getattr(error, "told", None)
    if not told or not current_texts().has(f"error.{told[0]}"):
        return str(error)
    return tr(f"error.{told[0]}", **told[1])
