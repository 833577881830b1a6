"""Unloads models that have not been used for a while, with a thread that checks regularly. It must not know how a model
is unloaded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

_SHARE = 0.1  # fraction of the idle time between two checks
_LONGEST = 30.0  # seconds between two checks at most


class IdleTimer:
    """Calls `unload_idle` regularly with the seconds after which a model counts as idle, until it is closed."""

    def __init__(self, unload_idle: Callable[[float], object], minutes: float) -> None:
        """`minutes` 0: never."""
        self._unload_idle = unload_idle
        self._seconds = minutes * 60
        self._over = threading.Event()
        if minutes > 0:
            threading.Thread(target=self._run, name="idle timer", daemon=True).start()

    def close(self) -> None:
        """Stop checking."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(min(self._seconds * _SHARE, _LONGEST)):
            try:
                self._unload_idle(self._seconds)
            except Exception:  # the next check may succeed
                log.exception("Looking for idle models")


def describe_minutes(minutes: float) -> str:
    """A span of time in words: "30 seconds", "1 minute", "1.5 minutes"."""
    count, unit = (minutes, "minute") if minutes >= 1 else (minutes * 60, "second")
    shown = f"{count:.3g}" if count < 100 else f"{count:,.0f}"
    return f"{shown} {unit}{'' if shown == '1' else 's'}"
