"""What is kept for each model: the loader and the options saved from the Model tab.

Two files, in the original's form: models/config.yaml (shipped or shared) and models/config-user.yaml (the user's).
Both map a regular expression, matched from the start of the name without regard to case, to settings; a later match
wins, and the user's file wins over the other. Keys that mean nothing here are left where they are.
This module must not know how options are honoured.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from errors import BadFile, InvalidInput
from loaders import LOADERS
from loaders.base import Loader
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping, write_mapping

SHIPPED, USER = "config.yaml", "config-user.yaml"


class ModelSettings:
    """The two files. They are read afresh each time, so that an edit by hand counts at the next load."""

    def __init__(self, paths: Paths, loaders: Mapping[str, type[Loader]] = LOADERS) -> None:
        self._folder = paths.models
        self._shipped = paths.root / "models" / SHIPPED  # also for those whose models lie elsewhere
        self._loaders = loaders
        self._lock = threading.Lock()

    def problems(self) -> list[str]:
        """A sentence for each of the files that cannot be read. What is below passes over such a file.

        A model can be loaded without what was kept for it, and its file is not touched: `keep` refuses to write it.
        """
        found = []
        for path in self._files:
            try:
                read_mapping(path)
            except BadFile as error:
                found.append(str(error))
        return found

    def entry(self, name: str, *, user_only: bool = False) -> dict[str, Any]:
        """All settings that match a model's name, merged."""
        merged: dict[str, Any] = {}
        for file, _, settings in self.matches(name):
            if file == USER or not user_only:
                merged.update(settings)
        return merged

    def matches(self, name: str) -> list[tuple[str, str, dict[str, Any]]]:
        """The entries that match a model's name, weakest first: file, pattern, settings."""
        return [
            (label, pattern, settings)
            for path, label in self._files.items()
            for pattern, settings in _entries(path, name)
        ]

    def loader_for(self, name: str) -> str | None:
        """The name of the loader that was saved for the model."""
        loader = self.entry(name).get("loader")
        return str(loader) if loader else None

    def options_for(self, name: str, loader: str) -> tuple[dict[str, Any], str]:
        """The saved load options under the knobs' own names, and where they come from ("" when there are none).

        A saved value that the option cannot take is left out, and the reason says so.
        """
        options: dict[str, Any] = {}
        reasons: list[str] = []
        for file in (SHIPPED, USER):
            found, complaints = self._checked(self._merged(file, name), loader)
            options.update(found)
            if found:
                reasons.append(f"from {file}")
            reasons += [f"{file}: {complaint}" for complaint in complaints]
        return options, "; ".join(reasons)

    def user_options_for(self, name: str, loader: str) -> dict[str, Any]:
        """Only what the user saved for the model."""
        return self._checked(self._merged(USER, name), loader)[0]

    def save(self, name: str, loader: str, options: Mapping[str, Any]) -> None:
        """Keep loader and options for this model; what else was kept for it stays. Raises: BadFile, OSError."""
        plain = {each: list(value) if isinstance(value, tuple) else value for each, value in options.items()}
        self.keep(name, {"loader": loader, **plain})

    def keep(self, name: str, settings: Mapping[str, Any]) -> None:
        """Keep these settings for this model, beside what was kept before; None takes one out.

        Raises: BadFile, OSError.
        """
        path = self._folder / USER
        key = f"^{re.escape(name)}$"
        with self._lock:
            values = read_mapping(path)
            kept = values.get(key)
            merged = {**(kept if isinstance(kept, dict) else {}), **settings}
            values[key] = {name: value for name, value in merged.items() if value is not None}
            write_mapping(path, values)

    @property
    def _files(self) -> dict[Path, str]:
        return {self._shipped: SHIPPED, self._folder / SHIPPED: SHIPPED, self._folder / USER: USER}

    def _merged(self, file: str, name: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for label, _, settings in self.matches(name):
            if label == file:
                merged.update(settings)
        return merged

    def _checked(self, settings: Mapping[str, Any], loader: str) -> tuple[dict[str, Any], list[str]]:
        known = self._loaders[loader].Options
        options: dict[str, Any] = {}
        complaints: list[str] = []
        for key, value in settings.items():
            name = known.spellings().get(key.replace("-", "_"))
            if name is None or value is None:
                continue
            try:
                options[name] = getattr(known.parse({name: value}), name)
            except InvalidInput as error:
                complaints.append(str(error))
        return options, complaints


def _entries(path: Path, name: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        found = read_mapping(path)
    except BadFile:  # `problems` says so
        return []
    return [
        (str(pattern), {str(key): value for key, value in settings.items()})
        for pattern, settings in found.items()
        if isinstance(settings, dict) and _matches(str(pattern), name)
    ]


def _matches(pattern: str, name: str) -> bool:
    # the original saved names without escaping them: "phi-2 (1+1).gguf$" means that very name
    if pattern.removeprefix("^").removesuffix("$").lower() == name.lower():
        return True
    try:
        return re.match(pattern, name, re.IGNORECASE) is not None
    except (re.error, RecursionError):
        return False
