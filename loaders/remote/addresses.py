"""The addresses of one model: the least busy first, the dead left out for a while.

It counts what runs where; it must not know how requests are sent.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from errors import UserError

#: Seconds for which an address that failed is left out, if there are others.
LEFT_OUT = 15.0

#: Seconds without an answer after which a server may have been started again with another model.
TRUSTED = 10.0

#: A version in the path of an address, as a part of its own.
_VERSION = re.compile(r"/v\d\w*(/|$)")


@dataclass
class Address:
    """One of them. `suspect`: it has failed, so another model may be there when it comes back; `seen`: when it last
    answered.
    """

    url: str
    running: int = 0
    out_until: float = 0.0
    suspect: bool = False
    seen: float = float("-inf")
    served: int = 0  # requests so far

    def at(self, route: str) -> str:
        """The URL of a route. Below an address with a version of its own (`/api/v3`, `/v1/openai`), there is no /v1."""
        has_version = _VERSION.search(urlsplit(self.url).path)
        return self.url + (route.removeprefix("/v1") if has_version else route)


@dataclass
class Attempts:
    """The addresses that one request has been sent to, and why each of them could not answer it."""

    tried: list[Address] = field(default_factory=list)
    failures: list[UserError] = field(default_factory=list)


class Addresses:
    """May be used from several threads."""

    def __init__(self, urls: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self._all = [Address(url) for url in urls]
        self._now = now
        self._lock = threading.Lock()

    def all(self) -> Sequence[Address]:
        """All of them, in the order in which they were given."""
        return tuple(self._all)

    def take(self, tried: Collection[Address] = ()) -> Address | None:
        """The least busy one that has not been tried, counted as busier from now on; None if all have been.

        Those that are left out come last, the one that failed first before the others.
        """
        now = self._now()
        with self._lock:
            left = [each for each in self._all if all(each is not other for other in tried)]
            if not left:
                return None
            found = min(left, key=lambda each: (max(each.out_until - now, 0.0), each.running, each.served))
            found.running += 1
            found.served += 1
            return found

    def release(self, address: Address) -> None:
        """A request on it has ended."""
        with self._lock:
            address.running -= 1

    def leave_out(self, address: Address, seconds: float = LEFT_OUT, *, suspect: bool = True) -> None:
        """It does not answer; others are asked first for this long."""
        with self._lock:
            address.out_until = self._now() + seconds
            address.suspect = address.suspect or suspect

    def restore(self, address: Address) -> None:
        """It answers, with the right model."""
        with self._lock:
            address.out_until, address.suspect, address.seen = 0.0, False, self._now()

    def is_trusted(self, address: Address) -> bool:
        """Whether it has answered a moment ago, and not failed since."""
        return not address.suspect and self._now() - address.seen < TRUSTED
