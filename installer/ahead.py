"""The demo model, fetched while the installation still tries everything: a start that wants it finds it there.

Whether it is wanted decides the program itself (modules/library/ahead.py). What is not there in time is left to the
start, which shows how far it is. It must not know how a model is fetched.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from installer.runner import Runner
from installer.variables import clean_environ

_PATIENCE = 10.0  # seconds for a fetch that is told to stop


@contextlib.contextmanager
def fetched(runner: Runner, arguments: Sequence[str] | None) -> Iterator[None]:
    """Meanwhile it is fetched for a start with these arguments; nothing is, where they are None."""
    if arguments is None:
        yield
        return
    layout = runner.layout
    environ = {**runner.environ, **clean_environ(layout), "PYTHONPATH": str(layout.root)}
    command = [str(layout.python), "-m", "modules.library.ahead", str(layout.root), *arguments]
    try:
        process = subprocess.Popen(
            command, env=environ, cwd=layout.root, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=runner.lock,
        )  # fmt: skip
    except OSError:
        yield
        return
    with process:
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                process.communicate(timeout=_PATIENCE)  # the end of its input tells it to stop
            process.kill()
