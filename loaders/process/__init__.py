"""Runs models in processes of their own: `load_model` is `loader.load`, but the loaded model lives in a child process,
whose crash does not end this program.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loaders.base import Loader, Model, Progress
from loaders.params import LoadOptions
from loaders.process.proxy import load_model

__all__ = ["LoadFunction", "load_in_this_process", "load_model"]

#: One of the two.
LoadFunction = Callable[[type[Loader], Path, LoadOptions, Progress], Model]


def load_in_this_process(loader: type[Loader], path: Path, options: LoadOptions, progress: Progress) -> Model:
    """Load in this process, unless the options need another one. Raises: UserError."""
    if loader.isolates(options):
        return load_model(loader, path, options, progress)
    return loader.load(path, options, progress)
