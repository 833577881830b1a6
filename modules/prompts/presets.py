"""Presets: named sets of sampling parameters, one flat YAML file each. A missing parameter has its default.

The parameters are declared in loaders.params; this module only knows that some of them belong to presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import InvalidInput, Unavailable, did_you_mean
from loaders.params import SamplingParams
from modules.config.named_files import NamedFiles
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping, write_mapping


class Presets(NamedFiles):
    """The presets in one folder."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths.presets, (".yaml",), "preset")

    def load(self, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The knobs that a preset sets, checked, and lines about what was skipped.

        Raises: UnknownName, InvalidName, BadFile.
        """
        values: dict[str, Any] = {}
        notes: list[str] = []
        spellings = SamplingParams.spellings()
        for key, value in read_mapping(self.require(name)).items():
            if key not in spellings:
                notes.append(f"The preset {name} contains the unknown parameter {key}.{did_you_mean(key, spellings)}")
                continue
            knob = spellings[key]
            try:
                values[knob] = getattr(SamplingParams.parse({knob: value}), knob)
            except InvalidInput as error:
                notes.append(f"The preset {name}: {error} The default is used.")
        return values, tuple(notes)

    def apply(self, params: SamplingParams, name: str) -> SamplingParams:
        """These parameters with the preset's values; the preset knobs that it omits get their defaults.

        Parameters that are not part of presets (the seed, max_new_tokens, ...) do not change. Raises: UnknownName,
        InvalidName, BadFile.
        """
        values, _ = self.load(name)
        return params.changed(**{**_defaults(), **{key: values[key] for key in values if key in _defaults()}})

    def save(self, name: str, params: SamplingParams) -> None:
        """Write a preset: only what differs from the defaults. Raises: InvalidName, Unavailable."""
        path = self.new_path(name)
        values = {key: value for key, value in params.differing().items() if key in _defaults()}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        try:
            write_mapping(path, plain)
        except OSError as error:
            raise Unavailable(f"The preset could not be saved to {path} ({error.strerror}).") from None


def _defaults() -> Mapping[str, Any]:
    return {name: knob.default for name, knob in SamplingParams.knobs().items() if knob.preset}
