"""Downloads the demo model before the program's first start, if that start would: `python -m modules.library.prefetch
ROOT [FLAG ...]`, until its input is closed.

The installer runs it during its tests. It prints nothing: an error here happens again at the start, which reports it.
It must not load a model.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from errors import UserError
from loaders import LOADERS
from modules.config.flags import read_flags
from modules.config.user_data import user_paths
from modules.library.demo_model import DemoModel
from modules.library.model_catalog import ModelCatalog
from modules.library.startup import wants_demo


def prefetch_demo(root: Path, argv: Sequence[str], stop: threading.Event) -> None:
    """Download it if a start with these arguments would; `stop` ends it. Raises: UserError."""
    launch = read_flags(argv, root, LOADERS)
    paths = user_paths(root, launch.server)
    if wants_demo(launch, ModelCatalog(paths)):
        DemoModel(paths).fetch(lambda _fraction, _doing: not stop.is_set())


def main() -> None:
    stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    with contextlib.suppress(UserError):
        prefetch_demo(Path(sys.argv[1]), sys.argv[2:], stop)


if __name__ == "__main__":
    main()
