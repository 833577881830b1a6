"""Describes why a load failed, in sentences for the user. It must not know which loader it was."""

from __future__ import annotations

from errors import UserError


def describe_failure(error: BaseException) -> str:
    """One sentence for any error."""
    return str(error) if isinstance(error, UserError) else "Loading failed. See the log for details."


def describe_loader_error(error: Exception) -> str:
    """A loader's own error, as the end of a sentence."""
    kind = getattr(error, "kind", type(error).__name__)  # of an error in another process
    if kind == MemoryError.__name__:
        return "not enough memory. Use a smaller n_ctx or a smaller model."
    detail = str(error).strip().splitlines()
    text = f": {detail[0][:200]}" if detail else ""
    return f"the loader failed ({kind}{text}). See the log for details."
