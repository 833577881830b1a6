"""Shutdown: Ctrl+C or SIGTERM ends the program within seconds, whatever is running, and keeps what was written.

The first signal interrupts the main thread, which closes everything; another thread enforces the time limit. A second
signal ends the program at once. This module gets what must be saved as a function and knows nothing of what runs.
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

#: Time from the signal to the end. After it, `keep` is called again.
SECONDS = 3.5
_KEEPING = 0.5  # seconds for that: a disk that hangs must not delay the end
_LEAVING = 1.0  # seconds for what Python itself waits for at exit


class Shutdown:
    """`keep` is called, in another thread, before the program is ended abruptly."""

    def __init__(self) -> None:
        self.keep: Callable[[], object] = lambda: None
        self.clean = True  # nothing runs any more that Python would have to wait for at exit
        self._asked = threading.Event()
        self._at_once = threading.Event()
        self._over = threading.Event()

    def listen(self) -> None:
        """Handle signals from now on. Only in the main thread."""
        # started now: in a signal handler, the main thread may hold a lock that starting a thread needs
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
            _exit(code)  # Python would wait for its threads, and native code may crash next to one that runs
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
            log.exception("Saving unsaved work at shutdown")


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        flusher = threading.Thread(target=stream.flush, daemon=True)  # a pipe that nobody reads would block it
        flusher.start()
        flusher.join(0.1)
    os._exit(code)
