"""How long a template may run: steps that loops, calls, filters and long texts cost, and a limit of computing time.

One budget serves all threads and keeps an account for each, so that a template pays for itself alone. It must not know
what a template is, only that it spends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from jinja2.exceptions import SecurityError

from modules.prompts import bounds

#: One for each pass of a loop, call, filter or test, and for some hundred characters that are read or copied. A chat
#: of a thousand messages takes about ten thousand.
STEPS = 1_000_000
#: Of the thread's own computing time, so that a busy machine fails nobody: for what steps do not measure well.
SECONDS = 3.0

_BETWEEN_LOOKS = 64  # steps: asking for the time costs more than a step
_CHARACTERS = 512  # that are read or copied in about the time that a step takes


class _Account:
    """What is left to one template."""

    __slots__ = ("left", "look_at", "until")

    def __init__(self, steps: int, seconds: float) -> None:
        self.left = steps
        self.look_at = steps - _BETWEEN_LOOKS
        self.until = time.thread_time() + seconds


class Budget:
    """Each thread has an account of its own. Once it is overdrawn, everything costs too much."""

    def __init__(self, steps: int = STEPS, seconds: float = SECONDS) -> None:
        self._steps, self._seconds = steps, seconds
        self._own = threading.local()

    @property
    def left(self) -> int:
        """Steps that the template in this thread has not spent."""
        return int(self._own.account.left)

    def begin(self) -> None:
        """A template begins in this thread."""
        self._own.account = _Account(self._steps, self._seconds)

    def spend(self, steps: int = 1) -> bool:
        """Always True, so that it can stand in a condition. Raises: SecurityError, when nothing is left."""
        account: _Account = self._own.account
        account.left -= steps
        if account.left < account.look_at:
            self._look(account)
        return True

    def characters(self, count: int) -> None:
        """That so many characters are read or copied. Raises: SecurityError."""
        if count >= _CHARACTERS:
            account: _Account = self._own.account
            account.left -= count // _CHARACTERS
            if account.left < account.look_at:
                self._look(account)

    def read(self, value: Any) -> None:
        """That a value is read through, as comparing, hashing and writing it do. Raises: SecurityError."""
        if isinstance(value, str | bytes):
            self.characters(len(value))
            return
        bounds.shallow(value)
        self.spend(1 + bounds.weight(value) // _CHARACTERS)

    def counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values, each of which costs a step when it is asked for."""
        for value in values:
            self.spend()
            yield value

    def _look(self, account: _Account) -> None:
        if account.left < 0:
            _overdrawn(f"it takes more than {self._steps:,} steps")
        account.look_at = account.left - _BETWEEN_LOOKS
        if time.thread_time() > account.until:
            account.left = -1
            _overdrawn(f"it computes for more than {self._seconds:g} seconds")


def _overdrawn(why: str) -> NoReturn:
    raise SecurityError(f"{why}. Look for a loop in it that goes on too long")
