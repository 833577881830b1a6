"""Presets: named sets of sampling knobs, one flat YAML file each. A knob that a file leaves out is at its default.

The knobs themselves are declared in loaders.params; this module only knows that some of them belong to presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from errors import BadFile, InvalidInput, Unavailable, UnknownName, nearest
from loaders.params import SamplingParams
from modules.config.paths import Paths, safe_child
from modules.config.yaml_file import read_mapping, write_mapping


class Presets:
    """The presets in one folder."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.presets

    def names(self) -> list[str]:
        """The names of all presets, sorted without regard to case."""
        files = self._folder.glob("*.yaml") if self._folder.is_dir() else ()
        return sorted((file.stem for file in files if not file.name.startswith(".")), key=str.casefold)

    def load(self, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The knobs that a preset sets, checked, and lines about what in it was passed over.

        Raises: UnknownName, InvalidName, BadFile.
        """
        values: dict[str, Any] = {}
        notes: list[str] = []
        spellings = SamplingParams.spellings()
        for key, value in read_mapping(self._existing(name)).items():
            if key not in spellings:
                notes.append(f"The preset {name} holds {key}, which is not a knob here.{nearest(key, spellings)}")
                continue
            knob = spellings[key]
            try:
                values[knob] = getattr(SamplingParams.parse({knob: value}), knob)
            except InvalidInput as error:
                notes.append(f"The preset {name}: {error} Its default is used.")
        return values, tuple(notes)

    def apply(self, params: SamplingParams, name: str) -> SamplingParams:
        """These parameters with the preset's values; knobs of presets that it leaves out go to their defaults.

        What no preset holds (the seed, max_new_tokens, ...) stays. Raises: UnknownName, InvalidName, BadFile.
        """
        values, _ = self.load(name)
        return params.changed(**{**_defaults(), **{key: values[key] for key in values if key in _defaults()}})

    def save(self, name: str, params: SamplingParams) -> None:
        """Write a preset: only what differs from the defaults. Raises: InvalidName, Unavailable."""
        path = safe_child(self._folder, name, ".yaml")
        values = {key: value for key, value in params.differing().items() if key in _defaults()}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        try:
            write_mapping(path, plain)
        except OSError as error:
            raise Unavailable(f"The preset cannot be saved to {path} ({error.strerror}).") from None

    def delete(self, name: str) -> None:
        """Remove a preset's file. Raises: UnknownName, InvalidName, Unavailable."""
        path = self._existing(name)
        try:
            path.unlink()
        except OSError as error:
            raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None

    def _existing(self, name: str) -> Path:
        path = safe_child(self._folder, name, ".yaml")
        if not path.is_file():
            if path.exists():
                raise BadFile(path, "it is not a file")
            raise UnknownName("preset", name, self.names())
        return path


def _defaults() -> Mapping[str, Any]:
    return {name: knob.default for name, knob in SamplingParams.knobs().items() if knob.preset}
