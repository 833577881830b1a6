"""Starts the server's process while the installation is still being tested, so that its imports are done by then.

The process imports everything it needs (which also tests whether the page can be imported) and waits. On request, it
serves without importing again; otherwise it ends. modules/config/standby.py is the other side. It stays a child of this
process, which forwards signals to it and ends with its exit code. It must not know how anything was installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from installer.environment.smoke_test import PROGRAM
from installer.environment.variables import clean_environ
from installer.layout import Layout
from installer.llama_cpp import library_pointer
from installer.runner import Runner, describe_exit, last_line
from installer.server import server_command

#: Environment variable for a server that waits. JSON: the folder for its output, and the modules to import.
VARIABLE = "WEBUI_STANDS_BY"
_PATIENCE = 10.0  # seconds that a process gets to end by itself
_HANDED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


class EarlyServer:
    """At most one early server: it can be started, checked, ended or told to serve."""

    def __init__(self, layout: Layout, arguments: Sequence[str]) -> None:
        self.layout = layout
        self.arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = layout.files / "early"
        self._surroundings: object = None

    def begin(self) -> None:
        """Start it; it imports and then waits. If it cannot be started, there is none. Raises: InstallStopped."""
        told = json.dumps({"folder": str(self._folder), "modules": PROGRAM.split(", ")})
        shutil.rmtree(self._folder, ignore_errors=True)
        self._surroundings = self._around()
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True)
            self._process = subprocess.Popen(
                server_command(self.layout, self.arguments), stdin=subprocess.PIPE, cwd=self.layout.root,
                env=clean_environ(self.layout) | {VARIABLE: told},
            )  # fmt: skip

    @contextlib.contextmanager
    def needed(self) -> Iterator[None]:
        """A context in which the early server is needed: if it fails or Ctrl+C is pressed, the server is ended at
        once.
        """
        try:
            yield
        except BaseException:
            self.end()
            raise

    def _around(self) -> object:
        """Everything that a Python of the environment reads only when it starts."""
        return clean_environ(self.layout), library_pointer.pointed_folder(self.layout.env)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def imports(self, runner: Runner) -> tuple[bool, str]:
        """Whether it could import the program, if known: (result, what went wrong). Only after `begin`."""
        process, imported = self._process, self._folder / "imported"
        assert process is not None
        while process.poll() is None and not imported.exists():
            time.sleep(0.02)
        if imported.exists():
            return True, ""
        said = ""
        with contextlib.suppress(OSError):
            said = (self._folder / "said").read_text("utf-8", "replace")
        said += describe_exit(process.returncode)
        runner.note([sys.executable, "server.py"], said)
        return False, last_line(said)

    def fits(self) -> bool:
        """Whether it is waiting, and nothing has been installed since that only a new Python process would notice."""
        return self.runs and self._around() == self._surroundings

    def end(self) -> None:
        """End it, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                process.communicate(timeout=_PATIENCE)  # end of input tells it to end
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def serve(self) -> int:
        """Let it serve and return its exit code. If a signal ended it, this process ends by the same signal."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        for name in _HANDED_ON:
            if number := getattr(signal, name, None):
                signal.signal(number, signal.SIG_IGN if os.name == "nt" else _handing_on(process))
        if os.name != "nt" and signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, _stopping_both(process))
        with contextlib.suppress(OSError):
            process.stdin.write(b"go\n")
            process.stdin.flush()  # stays open: when this process is killed, the server sees the end of its input
        code = process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        return code


def _handing_on(process: subprocess.Popen[bytes]) -> Callable[[int, object], None]:
    """A signal handler that forwards signals. The terminal sends Ctrl+C to this process only: the server has its own
    process group.
    """

    def hand_on(number: int, _: object) -> None:
        with contextlib.suppress(OSError):
            process.send_signal(number)

    return hand_on


def _stopping_both(process: subprocess.Popen[bytes]) -> Callable[[int, object], None]:
    """A handler for Ctrl+Z: both processes stop and continue together. If this one is ended while stopped, the system
    ends the other.
    """

    def stop(*_: object) -> None:
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGCONT)

    return stop
