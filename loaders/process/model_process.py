"""The owner's side of a model's process: starts it, communicates with it and ends it; if it dies, all callers get the
reason.

One thread reads the process's messages and passes them to the waiting callers; it is also the thread that starts the
process, because Linux ends a child with the thread that started it. It must not know what a request means.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from errors import Cancelled, EngineDied, ModelClosed, UserError
from loaders.heap import trim_heap
from loaders.process import wire
from loaders.process.cancelling import CancelWatch
from loaders.process.death import describe_death, out_of_memory_kills
from loaders.process.remote_job import RemoteJob, RemoteProcessors

log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_LAST_LINES = 100  # lines of its output: a driver may print much after the reason
_PATIENCE = 2.0  # seconds that a process gets to close its model, or to say that it still writes
_LONGEST = 60.0  # seconds that it gets to write: two states of some GiB, and a slow disk
_LOOK = 0.05

LoadStep = wire.HelloMessage | wire.ProgressMessage | wire.ReadyMessage | wire.FailedMessage


class ModelProcess:
    """One process with one model. May be used from several threads."""

    def __init__(self) -> None:
        """Start it. Raises: OSError."""
        self.steps: SimpleQueue[LoadStep] = SimpleQueue()  # of the load
        self._guard = threading.Lock()
        self._next_key = 0
        self._jobs: dict[int, RemoteJob] = {}
        self._calls: dict[int, SimpleQueue[wire.ResultMessage]] = {}
        self._closing = False
        self._saved = -math.inf  # when it last said that it still writes
        self._lost: Callable[[str], None] | None = None
        self._reason = ""
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._memory_kills = out_of_memory_kills()
        self._cancels = CancelWatch(self._cancel)
        self._processors = RemoteProcessors(self._send_quietly)
        begun: SimpleQueue[OSError | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._run, args=(begun,), name="model process", daemon=True)
        self._reader.start()
        if (error := begun.get()) is not None:
            raise error

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def reason(self) -> str:
        """Why it has ended, as a clause; "" while it runs."""
        return self._reason

    @property
    def killed(self) -> bool:
        """Whether a signal ended it, such as the system's when memory ran out."""
        return (self._process.returncode or 0) < 0

    @property
    def saving(self) -> bool:
        """Whether it is being closed, and still writes what its model keeps for later."""
        return self._reader.is_alive() and time.monotonic() - self._saved < _PATIENCE

    def check(self) -> None:
        """Raises: ModelClosed, EngineDied if it cannot be used any more."""
        if self._reason or self._closing:
            raise self._end()

    def load(self, message: wire.LoadMessage) -> None:
        """Begin to load; the results are in `steps`. Raises: EngineDied."""
        self._send(message)

    def on_lost(self, lost: Callable[[str], None]) -> None:
        """Call this with the reason if the process ends without being closed; at once if it already has."""
        with self._guard:
            if not self._reason or self._closing:
                self._lost = lost
                return
        lost(self._reason)

    def generate(self, job: RemoteJob, request: Mapping[str, Any]) -> None:
        """Start a reply, whose tokens go to the job. Raises: UserError, as the model does."""
        answer: SimpleQueue[wire.ResultMessage] = SimpleQueue()
        with self._guard:
            self.check()
            self._next_key += 1
            key = self._next_key
            self._jobs[key], self._calls[key] = job, answer
        kind, patience = self._processors.begin(key, job)
        self._send_quietly(wire.GenerateMessage(key, request, kind, patience))
        self._cancels.watch(key, job.request.cancel)
        if key not in self._jobs:  # it has ended already
            self._cancels.forget(key)
        result = answer.get()
        if result.error:
            self._forget_job(key)
            raise result.error

    def call(
        self,
        method: str,
        *arguments: Any,
        request: Mapping[str, Any] | None = None,
        cancel: threading.Event | None = None,
        seconds: float | None = None,
    ) -> Any:
        """The result of a method of the model. `cancel` is forwarded to the process. Raises: what the method raises,
        EngineDied, ModelClosed, TimeoutError after this many seconds.
        """
        if cancel and cancel.is_set():
            raise Cancelled
        answer: SimpleQueue[wire.ResultMessage] = SimpleQueue()
        with self._guard:
            self.check()
            self._next_key += 1
            key = self._next_key
            self._calls[key] = answer
        self._send_quietly(wire.CallMessage(key, method, arguments, request))
        if cancel:
            self._cancels.watch(key, cancel)
        try:
            result = answer.get(timeout=seconds)
        except Empty:
            raise TimeoutError from None
        finally:
            self._cancels.forget(key)
            self._calls.pop(key, None)
        if result.error:
            raise result.error
        return result.value

    def cancel_event(self, key: int | None) -> threading.Event | None:
        """The event of the caller that waits for this key."""
        return self._cancels.event(key) if key is not None else None

    def close(self) -> None:
        """End all requests, and the process: within some seconds, whatever it is doing, or a minute while it writes
        states. Calling it again does nothing.
        """
        with self._guard:
            if self._closing:
                return
            self._closing = True
        self._send_quietly(wire.CloseMessage())
        last = time.monotonic() + _LONGEST
        self._reader.join(_PATIENCE)
        while self.saving and time.monotonic() < last:
            self._reader.join(_LOOK)
        self.kill()

    def kill(self) -> None:
        """End the process and its children at once. Listeners are not told that the model is lost."""
        self._closing = True
        self._kill_group()
        self._reader.join(_PATIENCE)

    # --- inside ---

    def _end(self) -> UserError:
        """The result for all callers from now on."""
        return ModelClosed() if self._closing else EngineDied(self._reason or "it cannot be reached any more")

    def _cancel(self, key: int) -> None:
        if key in self._jobs or key in self._calls:
            self._send_quietly(wire.CancelMessage(key))

    def _send(self, message: Any) -> None:
        try:
            self._channel.send(message)
        except (OSError, ValueError):  # the reader handles it
            raise self._end() from None

    def _send_quietly(self, message: Any) -> None:
        """If it comes too late, the reader answers."""
        with contextlib.suppress(OSError, ValueError):
            self._channel.send(message)

    def _run(self, begun: SimpleQueue[OSError | None]) -> None:
        try:
            self._start()
        except OSError as error:
            begun.put(error)
            return
        begun.put(None)
        try:
            while True:
                self._take_all(self._channel.receive())
        except (EOFError, OSError, ValueError):
            pass
        except Exception:  # an invalid message: the process cannot be trusted any more
            log.exception("Reading from the model's process")
        with contextlib.suppress(subprocess.TimeoutExpired):  # its own exit code says more
            self._process.wait(0.2)
        self._kill_group()
        self._die()

    def _start(self) -> None:
        more: dict[str, Any] = {}
        if sys.platform == "win32":
            more["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        elif sys.version_info >= (3, 11):
            more["process_group"] = 0  # Ctrl+C is for this program, which ends its children
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loaders.process.host", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=_ROOT,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # a backtrace would start a debugger
            **more,
        )
        assert self._process.stdin
        assert self._process.stdout
        reading = io.BufferedReader(self._process.stdout, 1 << 16)  # type: ignore[type-var]
        self._channel = wire.Channel(reading, self._process.stdin)  # type: ignore[arg-type]
        self._printing = threading.Thread(target=self._print, name="model's messages", daemon=True)
        self._printing.start()

    def _print(self) -> None:
        """Pass its output on, and keep its last lines."""
        assert self._process.stderr
        with io.TextIOWrapper(io.BufferedReader(self._process.stderr), errors="replace") as printed:  # type: ignore[type-var]
            for line in printed:
                self._lines.append(line)
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(line)

    def _take_all(self, items: Sequence[Any]) -> None:
        """One message: the tokens of a step, of all replies. Whoever reads them is woken when all of them are here."""
        jobs: dict[RemoteJob, None] = {}
        for item in items:
            if not isinstance(item, tuple):
                self._take(item)
            elif job := self._jobs.get(item[0]):
                job.receive(item)
                jobs[job] = None
                if job.follows_tokens:
                    self._processors.received(item[0], item[1])
        for job in jobs:
            job.wake()

    def _take(self, item: Any) -> None:
        match item:
            case wire.ReportMessage(key=key):
                if job := self._jobs.get(key):
                    job.update(item.report)
                    if item.finish is not None:
                        self._forget_job(key)
                        job.finish(item.finish)
            case wire.ResultMessage(key=key):
                if answer := self._calls.pop(key, None):
                    answer.put(item)
            case wire.SavingMessage():
                self._saved = time.monotonic()
            case wire.ProcessMessage():
                self._processors.ask(item)
            case wire.HelloMessage() | wire.ProgressMessage() | wire.ReadyMessage() | wire.FailedMessage():
                self.steps.put(item)

    def _forget_job(self, key: int) -> None:
        self._jobs.pop(key, None)
        self._cancels.forget(key)
        self._processors.end(key)

    def _kill_group(self) -> None:
        """End it, and what it has started, where anything of it still runs."""
        with contextlib.suppress(OSError):
            self._process.kill()
        if sys.platform != "win32" and sys.version_info >= (3, 11):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _die(self) -> None:
        """All waiting callers get the reason."""
        code = self._process.wait()
        self._printing.join(1)
        reason = describe_death(code, tuple(self._lines), out_of_memory_kills() - self._memory_kills)
        with self._guard:
            self._reason = reason
            lost, self._lost = None if self._closing else self._lost, None  # which holds the model, and that this
        if lost:
            log.warning("The process of the model ended: %s", reason)
            lost(reason)
        for key, answer in tuple(self._calls.items()):
            answer.put(wire.ResultMessage(key, error=self._end()))
        for key, job in tuple(self._jobs.items()):
            self._forget_job(key)
            job.finish(self._end())
        self.steps.put(wire.FailedMessage(self._end()))
        self._cancels.close()
        self._processors.close()
        self._channel.close()
        trim_heap()  # what its requests and messages held
