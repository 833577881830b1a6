"""Limits a template's run time and memory: steps for loops, calls, filters and long texts, a limit of CPU time, and the
bytes of everything that it creates.

One budget object serves all threads and has one account per thread, so that each template is charged separately. It
must not know what a template is, only that it spends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from jinja2.exceptions import SecurityError

from modules.prompts.sandbox import limits

#: One per loop pass, call, filter or test, and per some hundred characters that are read or copied. A chat of a
#: thousand messages takes about ten thousand.
STEPS = 1_000_000
#: The thread's CPU time, so that a busy machine causes no failure: for what steps do not measure well.
SECONDS = 3.0
#: Bytes of all texts, lists and similar values that a template creates, whether or not it keeps them.
BYTES = 256_000_000

_SIZED = (str, bytes, list, tuple, dict, set)  # values that may be large
_BETWEEN_LOOKS = 64  # steps: reading the clock costs more than a step
_CHARACTERS = 512  # that are read or copied in about the time of a step


#: The factor for the user's own templates: a loaded model's, or one in the folder. Some iterate over all messages for
#: each message.
OWN = 4


class _Account:
    """The remaining budget of one template."""

    __slots__ = ("left", "look_at", "room", "seconds", "size", "steps", "until")

    def __init__(self, steps: int, seconds: float, size: int) -> None:
        self.left = self.steps = steps
        self.room = self.size = size
        self.seconds = seconds
        self.look_at = steps - _BETWEEN_LOOKS
        self.until = time.thread_time() + seconds


class Budget:
    """Each thread has its own account. Once it is overdrawn, everything fails."""

    def __init__(self, steps: int = STEPS, seconds: float = SECONDS) -> None:
        self._steps, self._seconds = steps, seconds
        self._own = threading.local()

    @property
    def left(self) -> int:
        """The steps that the template in this thread has left."""
        return int(self._own.account.left)

    def begin(self, times: int = 1) -> None:
        """A template begins in this thread; its limits are multiplied by this factor."""
        self._own.account = _Account(times * self._steps, times * self._seconds, times * BYTES)

    def spend(self, steps: int = 1) -> bool:
        """Always True, so that it can be used in a condition. Raises: SecurityError if the budget is used up."""
        account: _Account = self._own.account
        account.left -= steps
        if account.left < account.look_at:
            self._look(account)
        return True

    def characters(self, count: int) -> None:
        """Charge for characters that are read or copied. Raises: SecurityError."""
        if count >= _CHARACTERS:
            account: _Account = self._own.account
            account.left -= count // _CHARACTERS
            if account.left < account.look_at:
                self._look(account)

    def made(self, size: int) -> None:
        """Charge for bytes that were created. Raises: SecurityError if the budget is used up."""
        account: _Account = self._own.account
        account.room -= size
        if account.room < 0:
            _overdrawn(f"it uses more than {account.size // 1_000_000} MB")

    def keep(self, value: Any, *, deep: bool = False) -> Any:
        """Charge for a new value and return it; `deep`: its entries are new as well. Raises: SecurityError."""
        if isinstance(value, _SIZED):
            size = sys.getsizeof(value)
            if deep and not isinstance(value, str | bytes):
                entries = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
                size += sum(map(sys.getsizeof, entries))
            self.made(size)
        return value

    def read(self, value: Any) -> None:
        """Charge for reading a whole value, as comparing, hashing and writing do. Raises: SecurityError."""
        if isinstance(value, str | bytes):
            self.characters(len(value))
            return
        limits.check_depth(value)
        self.spend(1 + limits.estimate_size(value) // _CHARACTERS)

    def counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """The values, each of which costs a step when it is requested."""
        for value in values:
            self.spend()
            yield value

    def _look(self, account: _Account) -> None:
        if account.left < 0:
            _overdrawn(f"it takes more than {account.steps:,} steps")
        account.look_at = account.left - _BETWEEN_LOOKS
        if time.thread_time() > account.until:
            account.left = -1
            _overdrawn(f"it runs for more than {account.seconds:g} seconds")


def _overdrawn(why: str) -> NoReturn:
    raise SecurityError(f"{why}. Check it for a loop that runs too long")
