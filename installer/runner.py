"""The commands that the installation starts, unseen or in front of the user. It must not know what they do.

What is said unseen by a command that fails goes to installer_files/install.log, which sentences can name.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.disk import amount, cache_folder, own_cache, used
from installer.layout import Layout
from installer.variables import clean_environ

#: What people are told of the commonest ends by a signal, or by Windows' number of a fault.
_MEANINGS = {
    "SIGILL": ", an instruction that this processor does not have",
    "SIGKILL": ": by the system, as a rule, because memory ran out",
    "0xc000001d": ", an instruction that this processor does not have",
    "0xc0000135": ": a library (DLL) is missing",
}


class Runner:
    """Starts commands that see no other Python than ours, and keep temporary files in our folder."""

    def __init__(self, layout: Layout, lock: Sequence[int] = ()) -> None:
        self.layout = layout
        self.lock = lock  # inherited by what is started, so that a child which outlives us still holds it
        # Copies, not hard links: an edited or broken file must not reach uv's cache, or starting over repairs nothing.
        self.environ = clean_environ(layout) | {"UV_LINK_MODE": "copy"}
        self.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"  # its notice would be the last line that is quoted
        self.cache = cache_folder(os.environ, layout)
        if self.cache == own_cache(layout) or not Path(self.environ.get("UV_CACHE_DIR", "/")).is_absolute():
            self.environ["UV_CACHE_DIR"] = str(self.cache)
        with contextlib.suppress(OSError):  # a look at what is there needs no place to write to
            layout.tmp.mkdir(parents=True, exist_ok=True)
        if layout.tmp.is_dir():
            self.environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(layout.tmp))

    def output(self, *command: str | Path, **more: str) -> tuple[bool, str]:
        """Runs a command unseen, with `more` environment variables: (whether it succeeded, what it printed).

        Where it was ended by a signal, the last line says by which. A command that cannot be started has failed.
        """
        try:
            ran = subprocess.run(
                command, env=self.environ | more, pass_fds=self.lock, cwd=self._folder(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            done, said = False, f"{command[0]} cannot be started ({error.strerror or error})\n"
        else:
            done, said = ran.returncode == 0, ran.stdout + how_it_ended(ran.returncode)
        if not done:
            self._note(command, said)
        return done, said

    def quiet(self, *command: str | Path) -> str:
        """What a command prints that may well be missing or fail; "" where it does."""
        try:
            ran = subprocess.run(
                command, env=self.environ, capture_output=True, text=True, errors="replace", timeout=60, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return ""
        return ran.stdout if ran.returncode == 0 else ""

    def logged(self, *command: str | Path, doing: str, environ: Mapping[str, str] | None = None) -> tuple[bool, str]:
        """Runs a long command unseen, with a sign of life every half minute: (whether it succeeded, its last line).

        All that it says goes to the log; where that cannot be written, the user sees it.
        """
        begins = self._note(command, "")
        try:
            with self.layout.log.open("ab") as log:
                code = self._watched(command, doing, environ, log.fileno())
        except OSError:
            code = self._watched(command, doing, environ, None)
        ended = how_it_ended(code)
        if ended:
            with contextlib.suppress(OSError), self.layout.log.open("a", encoding="utf-8") as log:
                log.write(ended)
        with contextlib.suppress(OSError), self.layout.log.open("rb") as read:
            read.seek(begins)
            return code == 0, last_line(read.read().decode("utf-8", "replace"))
        return code == 0, last_line(ended)

    def stream(self, *command: str | Path, doing: str, environ: Mapping[str, str] | None = None) -> bool:
        """Runs a command in front of the user, with a sign of life every half minute; `environ`: more variables."""
        code = self._watched(command, doing, environ, None)
        if ended := how_it_ended(code).strip():
            print(f"      {doing}: {ended}", flush=True)
        return code == 0

    def _watched(
        self, command: Sequence[str | Path], doing: str, environ: Mapping[str, str] | None, output: int | None
    ) -> int:
        """Its exit code. The bytes are those that the disks hold more, whatever fetches them and wherever."""
        started, disks = time.monotonic(), [self.layout.files, self.cache]
        before = used(disks)
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
                    more = used(disks) - before
                    bytes_ = f", {amount(more)} more on the disk" if more > 0 else ""
                    print(f"      still {doing}, {time.monotonic() - started:.0f} s so far{bytes_} ...", flush=True)

    def _folder(self) -> Path:
        return self.layout.tmp if self.layout.tmp.is_dir() else self.layout.root

    def _note(self, command: Sequence[str | Path], said: str) -> int:
        """Adds a command and what it said to the log; where in the log that ends. A log that cannot be is left out."""
        try:
            with self.layout.log.open("ab") as log:
                log.write(f"$ {' '.join(map(str, command))}\n{said}\n".encode("utf-8", "replace"))
                return log.tell()
        except OSError:
            return 0


def how_it_ended(code: int) -> str:
    """A line for an exit code that no program gives by itself: a signal, or Windows' number of a fault; else ""."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"\nit was ended by {name}{_MEANINGS.get(name, '')}\n"
    name = f"{code:#010x}"
    return f"\nit was ended by Windows with {name}{_MEANINGS.get(name, '')}\n" if code >= 0x8000_0000 else ""


#: How pip and uv say that no server answered, somewhere above a last line that speaks of no matching distribution.
_NO_ANSWER = re.compile(
    r"(failed to (?:establish|resolve)|name or service not known|temporary failure|connection refused"
    r"|network is unreachable|certificate verify failed|timed? ?out)[^\n'\")]{0,80}",
    re.IGNORECASE,
)


def cause(text: str) -> str:
    """Why nothing could be fetched, by what pip said: the network's answer where it told one, else the last line."""
    found = _NO_ANSWER.search(text)
    return found[0].strip() if found else last_line(text)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
