"""Remembers which model was loaded last, so that the next start loads it again.

cache/last_model.json contains the name and the loader, nothing else: the options are those saved for the model, as for
any other load. Unload deletes it, ending the program does not. While a model is loading, its name is stored as well: if
the program crashes during the load, the next start does not load that model, once, instead of crashing again. The file
is a convenience: if it cannot be written or read, everything else still works.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from loaders import safe_json
from modules.config.atomic import write_json
from modules.config.paths import Paths

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastModel:
    """The remembered model; "" if there is none. `died_loading`: the one during whose load the program ended."""

    name: str = ""
    loader: str = ""
    died_loading: str = ""


class LastModelFile:
    """The file."""

    def __init__(self, paths: Paths) -> None:
        self._path = paths.cache / "last_model.json"

    def read(self) -> LastModel:
        """The remembered model."""
        try:
            value: Any = safe_json.loads(self._path.read_text(encoding="utf-8"))
            return LastModel(str(value["model"]), str(value["loader"]), str(value.get("loading", "")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return LastModel()

    def loading(self, name: str) -> None:
        """A load begins."""
        last = self.read()
        self._write(last.name, last.loader, name)

    def loaded(self, name: str, loader: str) -> None:
        """The load succeeded."""
        self._write(name, loader)

    def finish_loading(self) -> None:
        """The load failed, but the program still runs: the previously remembered model stays."""
        last = self.read()
        self._write(last.name, last.loader)

    def forget(self) -> None:
        """The user unloaded the model."""
        self._write("", "")

    def _write(self, name: str, loader: str, loading: str = "") -> None:
        try:
            write_json(self._path, {"model": name, "loader": loader, "loading": loading})
        except OSError as error:
            log.warning("Cannot write %s (%s): the next start will not remember the model.", self._path, error)
