"""Terminal output and questions, and which answers count as yes and no.

It must not know what is printed or asked, or why. server.py uses it as well.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any


def tolerate_encodings() -> None:
    """Make printing safe: characters that the terminal or file cannot encode become question marks, and output is
    discarded once nobody reads it.

    A program that was started without stdin, stdout or stderr gets them, and so do its child processes. Otherwise the
    first file that is opened would take that file descriptor and receive the output.
    """
    _fill_places()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  # to the end
            continue
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")
        if type(stream) is io.TextIOWrapper and type(getattr(stream.buffer, "raw", stream.buffer)) is io.FileIO:
            stream.flush()
            setattr(sys, name, _like(stream))


class _Unread(io.FileIO):
    """A pipe or terminal that may be closed, or a file on a disk that may be full."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EIO):  # for this process and its later child processes
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.fileno())
                os.close(nowhere)
            return memoryview(data).nbytes


def _like(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = _Unread(stream.fileno(), "wb", closefd=False)
    place: Any = io.BufferedWriter(raw) if hasattr(stream.buffer, "raw") else raw  # as PYTHONUNBUFFERED would do
    return io.TextIOWrapper(
        place, stream.encoding, stream.errors, line_buffering=stream.line_buffering, write_through=stream.write_through
    )


def _fill_places() -> None:
    while os.name != "nt":
        place = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor
        if place > 2:
            os.close(place)
            return
        os.set_inheritable(place, True)


def is_yes(text: str) -> bool:
    return text.strip().lower() in {"y", "yes", "true", "1", "t", "on"}


def is_no(text: str) -> bool:
    return text.strip().lower() in {"n", "no", "false", "0", "f", "off"}


def ask(question: str, parse: Callable[[str], str], default: str) -> str:
    """Repeat the question until parse() accepts the answer. Enter alone, or the end of input, selects the default."""
    while True:
        try:
            answer = input(question)
        except EOFError:
            return default
        if not answer.strip():
            return default
        if parsed := parse(answer):
            return parsed
        print("Please enter one of the letters shown.")
