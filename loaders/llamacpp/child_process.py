"""Calls llama.cpp in a separate process, because invalid files can crash the whole program.

`ask_child` starts a module of this package with a request as JSON on its standard input, and reads the response from
the last line of its output; the module reads it with `read_question`. It must not know what is requested.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from errors import LoadCancelled, ModelFileError
from loaders.worker_process import end_with, ggml_last_words

_ROOT = Path(__file__).resolve().parents[2]
_LOOK = 0.1  # seconds between two checks for cancellation
#: Windows' exit codes for an access violation, an illegal instruction and so on; and for abort().
_WINDOWS_FAULT, _WINDOWS_ABORT = 0x8000_0000, 3


class ChildCrashed(Exception):
    """The process crashed or was killed; the text says how, as a clause."""

    def about(self, file: Path) -> ModelFileError:
        """What this means for the file that the request was about."""
        what = "The file is damaged, or this version of llama.cpp does not support it"
        return ModelFileError(file.name, f"it would crash the program ({self}). {what}.")


def ask_child(
    module: str, question: Mapping[str, Any], go_on: Callable[[], bool] = lambda: True
) -> dict[str, Any] | None:
    """The response of `python -m MODULE`; None if it ended without one.

    `go_on` is called while it runs. Raises: ChildCrashed, LoadCancelled, OSError.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=_ROOT,
        # a backtrace would start a debugger
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
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
    if reason := describe_crash(process.returncode, complaints):
        raise ChildCrashed(reason)
    try:
        answer = json.loads(said.splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return answer if isinstance(answer, dict) and process.returncode == 0 else None


def read_question() -> Any:
    """Called first by the module that is asked: what is requested. It ends with the process that asks, which may be
    killed while llama.cpp loads here.
    """
    if not end_with(int(sys.argv[1])):
        os._exit(0)
    return json.loads(sys.stdin.read())


def describe_crash(code: int, complaints: str) -> str:
    """Why a process ended with this exit code, as a clause; "" if it ended normally."""
    if 0 <= code < _WINDOWS_FAULT and not (os.name == "nt" and code == _WINDOWS_ABORT):
        return ""
    if code == -signal.SIGTERM or code == -getattr(signal, "SIGKILL", 9):
        return "the system ended the trial, most likely because memory ran out"
    if said := ggml_last_words(complaints):
        sentence, place = said
        return f"llama.cpp says: {' '.join(sentence.split()).rstrip('.')} ({place})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"exit code {code:#x}"
    return f"llama.cpp ended with {name}"
