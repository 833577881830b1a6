"""Stops a step of llama.cpp's that nobody wants any more, while it is being computed.

llama.cpp asks a function between two operations whether to go on. Were that Python's, each of a thousand operations
would wait for the interpreter's lock; so it is the C library's strlen, asked about a text that is empty until somebody
writes into it. It must not know of requests.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: How often it is looked whether a step is still wanted, in seconds: about a token's time.
_LOOK = 0.01


class StopSwitch:
    """A switch that C code can read: `function` called with `address` is true while it is on."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        library: Any = ctypes.CDLL("msvcrt") if os.name == "nt" else ctypes.CDLL(None)
        self.function = library.strlen
        self.address = ctypes.c_void_p(ctypes.addressof(self._text))

    def turn(self, on: bool) -> None:
        """From any thread."""
        self._text[0] = b"\x01" if on else b"\0"

    @contextmanager
    def unless(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """While this runs, the switch goes on as soon as `wanted` says no; `wanted` is asked by another thread."""
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
