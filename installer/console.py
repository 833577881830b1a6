"""Questions to the user, and what counts as yes and no. It must not know what is asked, or why."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable


def bear_all() -> None:
    """Nothing that is said can fail: letters that the terminal or the file does not know become question marks.

    A program that was started without a place to write to has one then.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # to the end
            continue
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")


def is_yes(text: str) -> bool:
    return text.strip().lower() in {"y", "yes", "true", "1", "t", "on"}


def is_no(text: str) -> bool:
    return text.strip().lower() in {"n", "no", "false", "0", "f", "off"}


def ask(question: str, parse: Callable[[str], str], default: str) -> str:
    """Repeats the question until parse() accepts the answer; Enter alone, or no input any more, takes the default."""
    while True:
        try:
            answer = input(question)
        except EOFError:
            return default
        if not answer.strip():
            return default
        if parsed := parse(answer):
            return parsed
        print("Please answer with one of the letters shown.")
