"""Downloads the demo model in the background while the installation is tested, so that the first start has it.

The program itself decides whether it is needed (modules/library/prefetch.py). An unfinished download is left to the
start, which shows its progress. It must not know how a model is downloaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from installer.environment.variables import clean_environ
from installer.runner import Runner

_PATIENCE = 10.0  # seconds for a download that is told to stop


@contextlib.contextmanager
def prefetch(runner: Runner, arguments: Sequence[str] | None) -> Iterator[None]:
    """Inside, download it in the background for a start with these arguments; nothing if they are None."""
    if arguments is None:
        yield
        return
    layout = runner.layout
    environ = {**runner.environ, **clean_environ(layout), "PYTHONPATH": str(layout.root)}
    command = [str(layout.python), "-m", "modules.library.prefetch", str(layout.root), *arguments]
    with runner.in_background(command, environ, patience=_PATIENCE):
        yield
