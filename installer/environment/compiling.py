"""Compiles the byte code needed at the first start, in the background while the installation is tested.

Python would otherwise compile each file at its first import, one after the other. The files that are imported last are
compiled first. What is not finished in time is compiled at its import. It must not know why anything is imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from installer.environment.variables import clean_environ
from installer.runner import Runner

#: Folders in the order to compile, the program's own among them. A missing one is skipped.
PACKAGES = ("pandas", "modules", "loaders", "gradio", "PIL", "fastapi", "jinja2", "huggingface_hub", "rich")
_TESTS = r"[\\/](tests?|_testing|conftest\.py)([\\/]|$)"  # never imported


@contextlib.contextmanager
def compile_in_background(runner: Runner, *, wanted: bool) -> Iterator[None]:
    """Compile byte code in the background while inside; unfinished work is abandoned."""
    if not wanted:
        yield
        return
    layout = runner.layout
    places = [layout.root, layout.site_packages]
    folders = [str(place / name) for name in PACKAGES for place in places if (place / name).is_dir()]
    command = [str(layout.python), "-m", "compileall", "-qq", "-x", _TESTS, *folders]
    with runner.in_background(command, clean_environ(layout)):  # byte code is written under a temporary name
        yield
