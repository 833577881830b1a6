"""Which model was in memory last: a second start comes back with it, as a person expects who left it there.

cache/last_model.json holds the name and the loader, nothing else: the options are those saved for the model, as at any
other load. Unload forgets it, ending the program does not. While a model is loading its name is noted, too: when the
program dies of it, the next start leaves that model alone once, instead of dying again.
The file is a convenience: where it cannot be written or read, everything else goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from loaders import plain_json
from modules.config.atomic import write_json
from modules.config.paths import Paths

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LastModel:
    """The remembered model; "" when there is none. `died_loading`: the one that the program ended with."""

    name: str = ""
    loader: str = ""
    died_loading: str = ""


class Memory:
    """The file."""

    def __init__(self, paths: Paths) -> None:
        self._path = paths.cache / "last_model.json"

    def read(self) -> LastModel:
        """What is remembered."""
        try:
            value: Any = plain_json.loads(self._path.read_text(encoding="utf-8"))
            return LastModel(str(value["model"]), str(value["loader"]), str(value.get("loading", "")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return LastModel()

    def loading(self, name: str) -> None:
        """A load begins."""
        last = self.read()
        self._write(last.name, last.loader, name)

    def loaded(self, name: str, loader: str) -> None:
        """It succeeded."""
        self._write(name, loader)

    def settled(self) -> None:
        """It failed, but the program lives on: what was remembered before still holds."""
        last = self.read()
        self._write(last.name, last.loader)

    def forget(self) -> None:
        """The user unloaded the model."""
        self._write("", "")

    def _write(self, name: str, loader: str, loading: str = "") -> None:
        try:
            write_json(self._path, {"model": name, "loader": loader, "loading": loading})
        except OSError as error:
            log.warning("%s cannot be written (%s): the next start will not know the model.", self._path, error)
