"""Asks llama.cpp something in a process of its own, for it ends the whole program where a file makes no sense to it.

`run` starts a module of this package with a question as JSON on its standard input, and reads the answer from the last
line of its output. It must not know what is asked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from errors import LoadCancelled, ModelFileError

#: A variable for tests: addresses of RPC servers on this machine, with commas between. Such a server has no key, and
#: one that goes away ends the program.
SERVERS = "TEXTGEN_TEST_RPC_SERVERS"

_ROOT = Path(__file__).resolve().parents[2]
_LOOK = 0.1  # seconds between two looks at whether it was cancelled
#: ggml's last words: "/path/ggml.c:123: GGML_ASSERT(n > 0) failed", or the same with a sentence.
_LAST_WORDS = re.compile(r"^\S+?[/\\]?([\w.-]+\.\w+):(\d+): (.+)$", re.MULTILINE)
#: What Windows returns for a broken access, a missing instruction and so on; and what its abort() does.
_WINDOWS_FAULT, _WINDOWS_ABORT = 0x8000_0000, 3


class Crashed(Exception):
    """The process did not end by itself; the text says how, as a clause."""

    def about(self, file: Path) -> ModelFileError:
        """What it means for the file that it was asked about."""
        what = "The file is damaged, or of a kind that this llama.cpp cannot run"
        return ModelFileError(file.name, f"it would end the program ({self}). {what}.")


def run(
    module: str, question: Mapping[str, Any], go_on: Callable[[], bool] = lambda: True, *, cards: bool = True
) -> dict[str, Any] | None:
    """The answer of `python -m MODULE`; None where it ended without one.

    `go_on` is asked while it runs; `cards`: it may see those in the network, too. Raises: Crashed, LoadCancelled,
    OSError.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=_ROOT,
        # a backtrace would start a debugger
        env={**os.environ, "GGML_NO_BACKTRACE": "1", **({} if cards else {SERVERS: ""})},
    ) as process:
        asked: str | None = json.dumps(question)
        while True:
            try:
                said, complaints = process.communicate(asked, timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                asked = None
                if not go_on():
                    process.kill()
                    process.communicate()
                    raise LoadCancelled from None
    if reason := how_it_crashed(process.returncode, complaints):
        raise Crashed(reason)
    try:
        answer = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return answer if isinstance(answer, dict) and process.returncode == 0 else None


def how_it_crashed(code: int, complaints: str) -> str:
    """Why a process ended with this exit code, as a clause; "" where it ended by itself."""
    if 0 <= code < _WINDOWS_FAULT and not (os.name == "nt" and code == _WINDOWS_ABORT):
        return ""
    if code == -signal.SIGTERM or code == -getattr(signal, "SIGKILL", 9):
        return "the system ended the trial, most likely for want of memory"
    words = _LAST_WORDS.findall(complaints)
    said = [each for each in words if "GGML_ASSERT" in each[2]] or words
    if said:
        file, line, sentence = said[-1]
        return f"llama.cpp says: {' '.join(sentence.split()).rstrip('.')} ({file}:{line})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"exit code {code:#x}"
    return f"llama.cpp ended with {name}"
