"""How long a template may run, and how much it may make: steps that loops, calls, filters and long texts cost, a limit
of computing time, and the bytes of all that it makes.

One budget serves all threads and keeps an account for each, so that a template pays for itself alone. It must not know
what a template is, only that it spends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from jinja2.exceptions import SecurityError

from modules.prompts import bounds

#: One for each pass of a loop, call, filter or test, and for some hundred characters that are read or copied. A chat
#: of a thousand messages takes about ten thousand.
STEPS = 1_000_000
#: Of the thread's own computing time, so that a busy machine fails nobody: for what steps do not measure well.
SECONDS = 3.0
#: Bytes of all texts, lists and the like that a template makes, whether or not it keeps them.
BYTES = 256_000_000

_SIZED = (str, bytes, list, tuple, dict, set)  # what may be large
_BETWEEN_LOOKS = 64  # steps: asking for the time costs more than a step
_CHARACTERS = 512  # that are read or copied in about the time that a step takes


#: How many times as much a template of the user's own may take: a loaded model's, or one of the folder. Some go
#: through all messages again for each message.
OWN = 4


class _Account:
    """What is left to one template."""

    __slots__ = ("left", "look_at", "room", "seconds", "size", "steps", "until")

    def __init__(self, steps: int, seconds: float, size: int) -> None:
        self.left = self.steps = steps
        self.room = self.size = size
        self.seconds = seconds
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

    def begin(self, times: int = 1) -> None:
        """A template begins in this thread; it may take this many times as much as usual."""
        self._own.account = _Account(times * self._steps, times * self._seconds, times * BYTES)

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

    def made(self, size: int) -> None:
        """That so many bytes were made. Raises: SecurityError, when nothing is left."""
        account: _Account = self._own.account
        account.room -= size
        if account.room < 0:
            _overdrawn(f"it makes more than {account.size // 1_000_000} MB")

    def keep(self, value: Any, *, deep: bool = False) -> Any:
        """A value that was made, as it is; `deep`: its entries were made with it. Raises: SecurityError."""
        if isinstance(value, _SIZED):
            size = sys.getsizeof(value)
            if deep and not isinstance(value, str | bytes):
                entries = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
                size += sum(map(sys.getsizeof, entries))
            self.made(size)
        return value

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
            _overdrawn(f"it takes more than {account.steps:,} steps")
        account.look_at = account.left - _BETWEEN_LOOKS
        if time.thread_time() > account.until:
            account.left = -1
            _overdrawn(f"it computes for more than {account.seconds:g} seconds")


def _overdrawn(why: str) -> NoReturn:
    raise SecurityError(f"{why}. Look for a loop in it that goes on too long")
