"""Stops a running step of llama.cpp that is no longer needed.

llama.cpp calls a function between operations to ask whether to stop. If that were a Python function, each of a thousand
operations would wait for the interpreter's lock; so it is the C library's strlen, called with a text that is empty
until somebody writes into it. It must not know of requests.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: The interval of checks whether a step is still needed, in seconds: at most the time of a few tokens.
_LOOK = 0.02


class AbortSwitch:
    """A switch that C code can read: `function` called with `address` is true while it is on."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        library: Any = ctypes.CDLL("msvcrt") if os.name == "nt" else ctypes.CDLL(None)
        self.function = library.strlen
        self.address = ctypes.c_void_p(ctypes.addressof(self._text))

    def turn(self, on: bool) -> None:
        """Switch it on or off, from any thread."""
        self._text[0] = b"\x01" if on else b"\0"

    @contextmanager
    def unless(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """While inside, the switch is switched on as soon as `wanted` returns False; another thread calls `wanted`."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK):
                if not wanted():
                    self.turn(True)
                    return

        watcher = threading.Thread(target=watch, name="llama.cpp, whether to stop", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self.turn(False)
