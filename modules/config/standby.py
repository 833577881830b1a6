"""A server process that waits: it imports everything it needs, reports that, and starts serving on request."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "WEBUI_STANDS_BY"
_WORD = b"go\n"


def stand_by() -> None:
    """Does nothing if not requested. Otherwise it returns when told to start, and ends the process if the installer
    ends.

    After a restart, the process still ends with the installer. Until it starts, all output (also of native code, and
    tracebacks) goes into the file "said" in the given folder; "imported" is created beside it when everything is
    imported.
    """
    asked = os.environ.pop(VARIABLE, "")
    if not asked:
        return
    told = json.loads(asked)
    if "serves" in told:
        if told["serves"] == (os.getppid() if os.name == "nt" else os.getpid()):
            os.environ[VARIABLE] = _serving()
            threading.Thread(target=_mind, name="standing by", daemon=True).start()
        return  # or it is another process, started by the waiting one
    folder = Path(told["folder"])
    if os.name != "nt":
        os.setpgid(0, 0)  # the terminal's Ctrl+C is for the installer, which forwards it
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # some terminals stop background processes that print
    word = threading.Event()
    threading.Thread(target=_listen, args=(word,), name="standing by", daemon=True).start()
    with _said_into(folder / "said"):
        for name in told["modules"]:
            importlib.import_module(name)
        (folder / "imported").touch()
        word.wait()
    os.environ[VARIABLE] = _serving()


def _serving() -> str:
    """The value that marks a started server. It contains the process ID, because child processes inherit the
    variable.
    """
    return json.dumps({"serves": os.getpid()})


def _listen(word: threading.Event) -> None:
    """The end of the installer ends this process: before the start at once, after it like a signal."""
    if os.read(0, len(_WORD)) != _WORD:  # not by sys.stdin, whose lock Python waits for at exit
        os._exit(1)
    word.set()
    _mind()


def _mind() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _said_into(file: Path) -> Iterator[None]:
    """Redirect standard output and error there while inside; an exception that ends this is written there as well."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError:  # a full disk, which the installer reports itself
        target = os.open(os.devnull, os.O_WRONLY)
    for number, _ in kept:
        os.dup2(target, number)
    os.close(target)
    try:
        yield
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    for number, copy in kept:
        os.dup2(copy, number)
        os.close(copy)
