"""Questions to the user, and what counts as yes and no. It must not know what is asked, or why."""

from __future__ import annotations

from collections.abc import Callable


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
