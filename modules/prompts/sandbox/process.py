"""Runs templates that come with a request in separate processes, so that they take no time or memory from the process
that decodes. It must not know of conversations, or whose templates these are.
"""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import threading
import weakref
from collections.abc import Iterable, Mapping
from queue import LifoQueue
from typing import Any

from errors import TemplateFailed, TemplateTooSlow, Unavailable
from loaders import worker_process

#: How many run at the same time.
PROCESSES = 2
#: The exit code of a worker that exceeds its time, see worker_process.bounded.
_TOO_LONG = (-signal.SIGPROF,) if hasattr(signal, "SIGPROF") else ()


class _Died(Exception):
    """The process ended with this exit code before it answered."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class _Process:
    """One worker, started with its first request. One request at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()  # guards the two
        self._closed = False

    def ask(self, question: bytes) -> dict[str, Any]:
        """Send a request. Raises: _Died, OSError: it cannot be started."""
        process = self._running()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(question)
            process.stdin.flush()
            said: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self._process = None
            raise _Died(worker_process.stop_worker(process)) from None
        return said

    def close(self) -> None:
        """End it at once, whatever it is doing. From any thread."""
        with self._guard:
            self._closed = True
            if self._process:
                worker_process.stop_worker(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._closed:
                raise OSError(errno.ECANCELED, "the program is shutting down")
            if self._process and self._process.poll() is not None:  # it ended while idle
                worker_process.stop_worker(self._process)
                self._process = None
            if not self._process:
                self._process = worker_process.start_worker("modules.prompts.sandbox.worker")
            return self._process


class TemplateProcesses:
    """The same two operations as a Sandbox. May be used from several threads; a caller waits if all are busy."""

    def __init__(self, most: int = PROCESSES) -> None:
        self._all = [_Process() for _ in range(most)]
        self._free: LifoQueue[_Process] = LifoQueue()
        for process in self._all:
            self._free.put(process)
        weakref.finalize(self, _close, self._all)

    def render(self, name: str, source: str, values: Mapping[str, Any]) -> str:
        """The text that a template creates from the values, which must be JSON-serializable.

        Raises: TemplateFailed, with the line; TemplateTooSlow; Unavailable.
        """
        try:
            said = self._ask({"ask": "render", "source": source, "values": values})
        except (TypeError, ValueError, RecursionError) as error:
            raise TemplateFailed(name, f"its variables cannot be converted to JSON ({error})") from None
        except _Died as died:
            if died.code in worker_process.KILLED:
                raise Unavailable("The template process was killed twice. Send the request again.") from None
            raise TemplateTooSlow(name, "it takes too long or produces too much output") from None
        if "text" in said:
            return str(said["text"])
        kind = TemplateTooSlow if said["slow"] else TemplateFailed
        raise kind(name, said["why"], said["line"])

    def variables(self, source: str) -> frozenset[str]:
        """The external variables of a template; none for one that cannot be parsed. Raises: Unavailable."""
        try:
            return frozenset(self._ask({"ask": "variables", "source": source})["variables"])
        except _Died:
            return frozenset()

    def close(self) -> None:
        """End all of them at once; their requests fail."""
        _close(self._all)

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises: _Died, Unavailable."""
        line = json.dumps(question).encode() + b"\n"
        process = self._free.get()
        try:
            try:
                return process.ask(line)
            except _Died as died:
                if died.code in _TOO_LONG:
                    raise
                return process.ask(line)  # the template is to blame only if it ends the next process, too
        except OSError as error:
            raise Unavailable(f"The template process could not be started ({error.strerror}).") from None
        finally:
            self._free.put(process)


def _close(processes: Iterable[_Process]) -> None:
    for process in processes:
        process.close()
