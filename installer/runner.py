"""The commands that the installation starts, unseen or in front of the user. It must not know what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from installer.disk import cache_folder, own_cache
from installer.layout import Layout
from installer.variables import clean_environ


class Runner:
    """Starts commands that see no other Python than ours, and keep temporary files in our folder."""

    def __init__(self, layout: Layout, lock: Sequence[int] = ()) -> None:
        self.layout = layout
        self.lock = lock  # inherited by what is started, so that a child which outlives us still holds it
        # Copies, not hard links: an edited or broken file must not reach uv's cache, or starting over repairs nothing.
        self.environ = clean_environ(layout) | {"UV_LINK_MODE": "copy"}
        self.environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(layout.tmp))
        if cache_folder(os.environ, layout) == own_cache(layout):
            self.environ["UV_CACHE_DIR"] = str(own_cache(layout))
        layout.tmp.mkdir(parents=True, exist_ok=True)

    def output(self, *command: str | Path, **more: str) -> tuple[bool, str]:
        """Runs a command unseen, with `more` environment variables: (whether it succeeded, what it printed).

        Where it was ended by a signal, the last line says by which.
        """
        ran = subprocess.run(
            command, env=self.environ | more, pass_fds=self.lock, cwd=self.layout.tmp, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        return ran.returncode == 0, ran.stdout + how_it_ended(ran.returncode)

    def stream(self, *command: str | Path, doing: str, environ: Mapping[str, str] | None = None) -> bool:
        """Runs a command in front of the user, with a sign of life every half minute; `environ`: more variables."""
        started = time.monotonic()
        with subprocess.Popen(
            command, env={**self.environ, **(environ or {})}, pass_fds=self.lock, cwd=self.layout.tmp,
            stdin=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            while True:
                try:
                    return process.wait(timeout=30) == 0
                except subprocess.TimeoutExpired:
                    print(f"      still {doing}, {time.monotonic() - started:.0f} s so far ...", flush=True)


def how_it_ended(code: int) -> str:
    """A line for an exit code that no program gives by itself: a signal, or Windows' number of a fault; else ""."""
    if code < 0:
        try:
            return f"\nit was ended by {signal.Signals(-code).name}\n"
        except ValueError:
            return f"\nit was ended by signal {-code}\n"
    return f"\nit was ended by Windows with {code:#010x}\n" if code >= 0x8000_0000 else ""


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
