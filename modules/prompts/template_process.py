"""Templates that come with a request, run in processes of their own: a stranger's program takes no time and no memory
from the one that decodes. It must not know of conversations, nor whose templates these are.
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
#: How a worker ends whose time is over, see worker_process.bounded.
_TOO_LONG = (-signal.SIGPROF,) if hasattr(signal, "SIGPROF") else ()


class _Died(Exception):
    """The process ended, with this exit code, before it had answered."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class _Process:
    """One worker, started when it is asked something. One question at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()  # over the two
        self._closed = False

    def ask(self, question: bytes) -> dict[str, Any]:
        """Raises: _Died, OSError: it cannot be started."""
        process = self._running()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(question)
            process.stdin.flush()
            said: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self._process = None
            raise _Died(worker_process.end(process)) from None
        return said

    def close(self) -> None:
        """End it at once, whatever it does. From any thread."""
        with self._guard:
            self._closed = True
            if self._process:
                worker_process.end(self._process)

    def _running(self) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._closed:
                raise OSError(errno.ECANCELED, "the program ends")
            if self._process and self._process.poll() is not None:  # it ended while nothing was asked
                worker_process.end(self._process)
                self._process = None
            if not self._process:
                self._process = worker_process.start("modules.prompts.template_worker")
            return self._process


class TemplateProcesses:
    """The same two questions that a Sandbox answers. May be used from several threads; who finds all busy waits."""

    def __init__(self, most: int = PROCESSES) -> None:
        self._all = [_Process() for _ in range(most)]
        self._free: LifoQueue[_Process] = LifoQueue()
        for process in self._all:
            self._free.put(process)
        weakref.finalize(self, _close, self._all)

    def render(self, name: str, source: str, values: Mapping[str, Any]) -> str:
        """The text that a template makes of the values, which can be written as JSON.

        Raises: TemplateFailed, with the line; TemplateTooSlow; Unavailable.
        """
        try:
            said = self._ask({"ask": "render", "source": source, "values": values})
        except (TypeError, ValueError, RecursionError) as error:
            raise TemplateFailed(name, f"its values cannot be written as JSON ({error})") from None
        except _Died as died:
            if died.code in worker_process.KILLED:
                raise Unavailable("The process for templates was ended from outside, twice. Send it again.") from None
            raise TemplateTooSlow(name, "it takes too long, or makes too much") from None
        if "text" in said:
            return str(said["text"])
        kind = TemplateTooSlow if said["slow"] else TemplateFailed
        raise kind(name, said["why"], said["line"])

    def variables(self, source: str) -> frozenset[str]:
        """The values that a template asks for from outside; none for one that cannot be read. Raises: Unavailable."""
        try:
            return frozenset(self._ask({"ask": "variables", "source": source})["variables"])
        except _Died:
            return frozenset()

    def close(self) -> None:
        """End all of them at once; what they were asked fails."""
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
                return process.ask(line)  # it is to blame only if that ends the next one, too
        except OSError as error:
            raise Unavailable(f"No process for this template can be started ({error.strerror}).") from None
        finally:
            self._free.put(process)


def _close(processes: Iterable[_Process]) -> None:
    for process in processes:
        process.close()
