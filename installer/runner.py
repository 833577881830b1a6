"""Runs the installation's commands, hidden or with output for the user. It must not know what they do.

The output of hidden commands goes to installer_files/install.log, which messages can name.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from installer.environment.variables import clean_environ
from installer.hardware.disk import cache_folder, format_bytes, project_cache, used_bytes
from installer.layout import Layout

#: Explanations of the most common signals and Windows fault codes.
_MEANINGS = {
    "SIGILL": ", an instruction that this CPU does not support",
    "SIGKILL": ", usually because the system ran out of memory",
    "0xc000001d": ", an instruction that this CPU does not support",
    "0xc0000135": ": a library (DLL) is missing",
}


class Runner:
    """Starts commands that see no other Python than ours and keep temporary files in our folder."""

    def __init__(self, layout: Layout, lock: Sequence[int] = ()) -> None:
        self.layout = layout
        self.lock = lock  # inherited by child processes, so that a child which outlives us still holds it
        # Copies, not hard links: an edited or damaged file must not reach uv's cache, or a fresh installation would not
        # repair it.
        self.environ = clean_environ(layout) | {"UV_LINK_MODE": "copy"}
        self.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"  # its notice would be the last line that is quoted
        self.cache = cache_folder(os.environ, layout)
        if self.cache == project_cache(layout) or not Path(self.environ.get("UV_CACHE_DIR", "/")).is_absolute():
            self.environ["UV_CACHE_DIR"] = str(self.cache)
        with contextlib.suppress(OSError):  # a query needs no writable folder
            layout.tmp.mkdir(parents=True, exist_ok=True)
        if layout.tmp.is_dir():
            self.environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(layout.tmp))

    def output(self, *command: str | Path, **more: str) -> tuple[bool, str]:
        """Run a hidden command with `more` environment variables: (whether it succeeded, its output).

        If a signal ended it, the last line says which. A command that cannot be started has failed.
        """
        try:
            ran = subprocess.run(
                command, env=self.environ | more, pass_fds=self.lock, cwd=self._folder(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            done, said = False, f"{command[0]} cannot be started ({error.strerror or error})\n"
        else:
            done, said = ran.returncode == 0, ran.stdout + describe_exit(ran.returncode)
        if not done:
            self.note(command, said)
        return done, said

    @contextlib.contextmanager
    def in_background(
        self, command: Sequence[str | Path], environ: Mapping[str, str], *, patience: float = 0.0
    ) -> Iterator[None]:
        """Inside, a hidden command runs in the program's folder; if it cannot be started, nothing runs.

        It is killed at the end; with `patience`, its input is closed first and it gets that many seconds to end.
        """
        try:
            process = subprocess.Popen(
                command, env=environ, cwd=self.layout.root, stdin=subprocess.PIPE if patience else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=self.lock,
            )  # fmt: skip
        except OSError:
            yield
            return
        with process:
            try:
                yield
            finally:
                if patience:
                    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                        process.communicate(timeout=patience)
                process.kill()

    def quiet(self, *command: str | Path) -> str:
        """The output of a command that may be missing or fail; "" if it does."""
        try:
            ran = subprocess.run(
                command, env=self.environ, capture_output=True, text=True, errors="replace", timeout=60, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return ""
        return ran.stdout if ran.returncode == 0 else ""

    def logged(self, *command: str | Path, doing: str, environ: Mapping[str, str] | None = None) -> tuple[bool, str]:
        """Run a long hidden command, with a progress line every half minute: (whether it succeeded, its last line).

        Its output goes to the log; if that cannot be written, the user sees it.
        """
        begins = self.note(command, "")
        try:
            with self.layout.log.open("ab") as log:
                code = self._watched(command, doing, environ, log.fileno())
        except OSError:
            code = self._watched(command, doing, environ, None)
        ended = describe_exit(code)
        if ended:
            with contextlib.suppress(OSError), self.layout.log.open("a", encoding="utf-8") as log:
                log.write(ended)
        with contextlib.suppress(OSError), self.layout.log.open("rb") as read:
            read.seek(begins)
            return code == 0, last_line(read.read().decode("utf-8", "replace"))
        return code == 0, last_line(ended)

    def stream(self, *command: str | Path, doing: str, environ: Mapping[str, str] | None = None) -> bool:
        """Run a command with visible output and a progress line every half minute; `environ`: more variables."""
        code = self._watched(command, doing, environ, None)
        if ended := describe_exit(code).strip():
            print(f"      {doing}: {ended}", flush=True)
        return code == 0

    def _watched(
        self, command: Sequence[str | Path], doing: str, environ: Mapping[str, str] | None, output: int | None
    ) -> int:
        """Wait and return the exit code. The bytes shown are the growth of used disk space, whatever downloads them."""
        started, disks = time.monotonic(), [self.layout.files, self.cache]
        before = used_bytes(disks)
        try:
            process = subprocess.Popen(
                command, env={**self.environ, **(environ or {})}, pass_fds=self.lock, cwd=self._folder(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        except OSError as error:
            print(f"      {command[0]} cannot be started ({error.strerror or error}).", flush=True)
            return 127
        with process:
            while True:
                try:
                    return process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    more = used_bytes(disks) - before
                    bytes_ = f", {format_bytes(more)} more on disk" if more > 0 else ""
                    print(f"      still {doing}, {time.monotonic() - started:.0f} s so far{bytes_} ...", flush=True)

    def _folder(self) -> Path:
        return self.layout.tmp if self.layout.tmp.is_dir() else self.layout.root

    def note(self, command: Sequence[str | Path], said: str) -> int:
        """Add a command and its output to the log; returns the log's end. A log that cannot be written is skipped."""
        try:
            with self.layout.log.open("ab") as log:
                log.write(f"$ {' '.join(map(str, command))}\n{said}\n".encode("utf-8", "replace"))
                return log.tell()
        except OSError:
            return 0


def describe_exit(code: int) -> str:
    """A line for an exit code that comes from a signal or a Windows fault; else ""."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"\nit was ended by {name}{_MEANINGS.get(name, '')}\n"
    name = f"{code:#010x}"
    return f"\nit was ended by Windows with {name}{_MEANINGS.get(name, '')}\n" if code >= 0x8000_0000 else ""


#: How pip and uv report that no server responded, somewhere above a last line about no matching distribution.
_NO_ANSWER = re.compile(
    r"(failed to (?:establish|resolve)|name or service not known|temporary failure|connection refused"
    r"|network is unreachable|certificate verify failed|timed? ?out)[^\n'\")]{0,80}",
    re.IGNORECASE,
)


def network_cause(text: str) -> str:
    """Why a download failed, from pip's output: the network error if there is one, else the last line."""
    found = _NO_ANSWER.search(text)
    return found[0].strip() if found else last_line(text)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
