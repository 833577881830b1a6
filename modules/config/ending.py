"""The end of the program: Ctrl+C or SIGTERM ends it within seconds, whatever still runs, and what was written is kept.

The first signal interrupts the main thread, which closes everything; a thread beside it sees to the time. A second one
ends the program at once. This module knows what is to be kept as a function, and nothing of what runs.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)

#: From the signal to the last moment. After it, what is kept is kept once more.
SECONDS = 3.5
_KEEPING = 0.5  # seconds for that: a disk that hangs holds nobody up
_LEAVING = 1.0  # seconds for what Python itself waits for at its end


class Ending:
    """`keep` is called before the program is ended in the middle of something, from another thread."""

    def __init__(self) -> None:
        self.keep: Callable[[], object] = lambda: None
        self.clean = True  # nothing runs any more that Python's own end would have to wait for
        self._asked = threading.Event()
        self._at_once = threading.Event()
        self._over = threading.Event()

    def listen(self) -> None:
        """Mind the signals from now on. Only in the main thread."""
        # started now: in a signal's handler the main thread may hold what a new thread needs
        threading.Thread(target=self._watch, name="ending", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)

    def over(self) -> None:
        """Everything has been closed."""
        self._over.set()
        self._asked.set()
        self._at_once.set()

    def leave(self, code: int) -> NoReturn:
        """End the process with this exit code."""
        if not self.clean:
            _exit(code)  # Python would wait for its threads, and native code may crash beside one that runs
        timer = threading.Timer(_LEAVING, _exit, (code,))
        timer.daemon = True
        timer.start()
        sys.exit(code)

    def _signalled(self, *_: object) -> None:
        if self._asked.is_set():
            self._at_once.set()
            return
        self._asked.set()
        raise KeyboardInterrupt

    def _watch(self) -> None:
        self._asked.wait()
        self._at_once.wait(SECONDS)
        if self._over.is_set():
            return
        keeper = threading.Thread(target=self._keep, name="keeping", daemon=True)
        keeper.start()
        keeper.join(_KEEPING)
        _exit(0)

    def _keep(self) -> None:
        try:
            self.keep()
        except Exception:
            log.exception("Keeping what was written, at the end of the program")


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        flusher = threading.Thread(target=stream.flush, daemon=True)  # a pipe that nobody reads would hold it up
        flusher.start()
        flusher.join(0.1)
    os._exit(code)
