"""Runs a function in a thread of its own, so that its event can show that it waits, and stop waiting.

The function sees the event's page (its language, its toasts). This module must not know any tab.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any

#: Seconds between two looks whether somebody still waits.
_GLANCE = 0.1


class Waiting:
    """Whether a browser window still waits for an answer. One per window, changed in place."""

    def __init__(self) -> None:
        self.number = 0  # of the question: a stopped one is not confused with the next

    def stop(self) -> None:
        """Wait no longer."""
        self.number += 1


def run_aside(function: Callable[..., Any], *given: Any) -> Future[Any]:
    """Start the function; its result comes in the future. Nothing waits for it when the program ends."""
    made: Future[Any] = Future()
    context = copy_context()

    def run() -> None:
        try:
            made.set_result(context.run(function, *given))
        except Exception as error:
            made.set_exception(error)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return made


def await_answer(answer: Future[Any], waiting: Waiting) -> bool:
    """True when the answer is there, False as soon as the window no longer waits for it."""
    asked = waiting.number
    while not _finished(answer):
        if waiting.number != asked:
            return False
    return True


def _finished(answer: Future[Any]) -> bool:
    try:
        answer.exception(_GLANCE)
    except TimeoutError:
        return False
    return True
