"""Fetches the demo model before the program's first start, where that start would: `python -m modules.library.ahead
ROOT [FLAG ...]`, until its input ends.

The installer runs it beside its trials. It says nothing: what goes wrong here goes wrong again at the start, which says
it. It must not load a model.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from errors import UserError
from loaders import LOADERS
from modules.config.flags import read
from modules.config.user_data import paths_of
from modules.library.demo import DemoModel
from modules.library.shelf import Shelf
from modules.library.startup import wants_demo


def fetch(root: Path, argv: Sequence[str], stop: threading.Event) -> None:
    """Fetches it where a start with these arguments would; `stop` ends it. Raises: UserError."""
    launch = read(argv, root, LOADERS)
    paths = paths_of(root, launch.server)
    if wants_demo(launch, Shelf(paths)):
        DemoModel(paths).fetch(lambda _fraction, _doing: not stop.is_set())


def main() -> None:
    stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    with contextlib.suppress(UserError):
        fetch(Path(sys.argv[1]), sys.argv[2:], stop)


if __name__ == "__main__":
    main()
