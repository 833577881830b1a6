"""The settings saved for each model: the loader and options from the Model tab.

Two files, in the original's form: models/config.yaml (shipped or shared) and models/config-user.yaml (the user's). Both
map a regular expression, matched from the start of the name ignoring case, to settings; a later match overrides earlier
ones, and the user's file overrides the other. Unknown keys are not changed. This module must not know what options do.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from errors import BadFile, InvalidInput, Unavailable
from loaders import LOADERS
from loaders.base import Loader
from loaders.cache_types import replace_old_switches
from loaders.nearest_value import nearest_value
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.config.yaml_file import read_mapping, write_mapping

_Stamp = tuple[int, int]  # time and size of a file
_CARD = re.compile(r"gpu_memory_\d{1,2}")
_NO_GIB = 1024  # GiB that no user's machine has
_OF_LOADERS = frozenset(name for loader in LOADERS.values() for name in loader.Options.spellings())
#: Saved under the name of a loaded GGUF by versions in which that had no ".gguf".
_FORMERLY = ("instruction_template", "instruction_template_str")
SHIPPED, USER = "config.yaml", "config-user.yaml"


class ModelSettings:
    """The two files. They are read again each time, so that an edit by hand takes effect at the next load."""

    def __init__(self, paths: Paths, loaders: Mapping[str, type[Loader]] = LOADERS) -> None:
        self._folder = paths.models
        self._shipped = paths.root / "models" / SHIPPED  # also for models in another folder
        self._loaders = loaders
        self._lock = threading.Lock()
        self._sampling: dict[str, tuple[tuple[_Stamp, ...], Mapping[str, Any]]] = {}

    def problems(self) -> list[str]:
        """A sentence for each file that cannot be read. All methods below skip such a file.

        A model can be loaded without its saved settings, and the file is not changed: `keep` refuses to write it.
        """
        found = []
        for path in self._files:
            try:
                read_mapping(path)
            except BadFile as error:
                found.append(str(error))
        return found

    def stamp(self) -> tuple[_Stamp, ...]:
        """Changes when one of the files does."""
        return tuple(_stamp(path) for path in self._files)

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
        """The saved load options under the knobs' own names, and where they come from ("" if there are none).

        For a saved value out of range, the nearest is used; another invalid one is left out. The reason says so.
        """
        options: dict[str, Any] = {}
        reasons: list[str] = []
        counting: dict[str, Any] = {}
        for file in (SHIPPED, USER):
            found, complaints = self._checked(self._merged(file, name), loader)
            options.update(found)
            if found:
                reasons.append(f"from {file}")
            start, bad = _sampling(self._merged(file, name))
            if turned := [each for each, value in start.items() if value != counting.get(each, _default(each))]:
                reasons.append(f"{file} sets for every reply: {', '.join(turned)}")
            counting.update(start)
            reasons += [f"{file}: {complaint}" for complaint in (*complaints, *bad)]
        return options, "; ".join(reasons)

    def user_options_for(self, name: str, loader: str) -> dict[str, Any]:
        """Only what the user saved for the model."""
        return self._checked(self._merged(USER, name), loader)[0]

    def sampling_for(self, name: str) -> Mapping[str, Any]:
        """The start values of sampling parameters in the model's entries: stop strings, a shorter context.

        Load options of a loader are not included, nor defaults, which set nothing: the original writes
        `custom_stopping_strings: ''`. Invalid values are left out; `options_for` reports them.
        """
        stamp = self.stamp()
        with self._lock:
            known = self._sampling.get(name)
        if known and known[0] == stamp:
            return known[1]
        start = _sampling(self.entry(name))[0]
        found = MappingProxyType({each: value for each, value in start.items() if value != _default(each)})
        with self._lock:
            self._sampling = {name: (stamp, found)}  # for the loaded model only
        return found

    def save(self, name: str, loader: str, options: Mapping[str, Any]) -> None:
        """Save loader and options for this model; its other settings are kept. Raises: BadFile, Unavailable."""
        plain = {each: list(value) if isinstance(value, tuple) else value for each, value in options.items()}
        self.keep(name, {"loader": loader, **plain})

    def keep(self, name: str, settings: Mapping[str, Any]) -> None:
        """Save these settings for this model in addition to existing ones; None deletes one.

        Raises: BadFile, Unavailable.
        """
        path = self._folder / USER
        key = f"^{re.escape(name)}$"
        with self._lock:
            values = read_mapping(path)
            kept = values.get(key)
            former = values.get(_former_key(name))
            if isinstance(former, dict):  # what is saved here replaces it
                replaced = {*_FORMERLY} & {*settings}
                values[_former_key(name)] = {each: value for each, value in former.items() if each not in replaced}
            merged = {**(kept if isinstance(kept, dict) else {}), **settings}
            values[key] = {name: value for name, value in merged.items() if value is not None}
            try:
                write_mapping(path, values)
            except OSError as error:
                raise Unavailable(
                    f"The model's settings could not be saved ({error.strerror}). Free some disk space, or make the "
                    "models folder writable."
                ) from None

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
        written = {key.replace("-", "_"): value for key, value in _of_cards(settings).items()}
        for key, value in replace_old_switches(written, known.spellings()).items():
            name = known.spellings().get(key)
            if name is None or value is None:
                continue
            try:
                options[name], changed = nearest_value(known, name, value)
                complaints += [f"{key} {value} is {changed}"] if changed else []
            except InvalidInput as error:
                complaints.append(str(error))
        return options, complaints


def _of_cards(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the original's memory sliders to the equivalent options: one value per GPU, in MiB, 0 for no limit.

    Its versions of 2024 write MiB, also for the CPU, those of 2025 GiB: a value that no machine has is taken as MiB.
    """
    plain = dict(settings)
    cards = sorted((each for each in plain if _CARD.fullmatch(each)), key=lambda each: int(each.rpartition("_")[2]))
    sizes = [_number(plain.pop(each)) for each in cards]
    if any(sizes) and not plain.get("gpu_memory"):
        plain["gpu_memory"] = ",".join(f"{size:g}MiB" for size in sizes)
    for name in ("gpu_memory", "cpu_memory"):
        value = plain.get(name)
        if isinstance(value, list | tuple):
            plain[name] = ",".join(str(each) for each in value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            unit = "MiB" if cards or value >= _NO_GIB else "GiB"
            plain[name] = f"{value:g}{unit}" if value > 0 else ""
    return plain


def _number(value: Any) -> float:
    try:
        return max(0.0, float(value or 0))
    except (TypeError, ValueError):
        return 0.0


def _sampling(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The sampling parameters among a model's settings, and a sentence for each invalid value."""
    spellings = SamplingParams.spellings()
    found: dict[str, Any] = {}
    complaints: list[str] = []
    for key, value in settings.items():
        name = spellings.get(key.replace("-", "_"))
        if name is None or value is None or key in _OF_LOADERS:
            continue
        try:
            found[name], changed = nearest_value(SamplingParams, name, value)
            complaints += [f"{key} {value} is {changed}"] if changed else []
        except InvalidInput as error:
            complaints.append(str(error))
    return found, complaints


def _default(name: str) -> Any:
    return SamplingParams.knobs()[name].default


def _stamp(path: Path) -> _Stamp:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def _entries(path: Path, name: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        found = read_mapping(path)
    except BadFile:  # `problems` reports it
        return []
    entries = []
    for pattern, settings in found.items():
        if isinstance(settings, dict) and _matches(str(pattern), name):
            entries.append((str(pattern), {str(key): value for key, value in settings.items()}))
        elif isinstance(settings, dict) and pattern == _former_key(name):
            entries.append((str(pattern), {key: settings[key] for key in _FORMERLY if key in settings}))
    return entries


def _former_key(name: str) -> str:
    """The pattern of a GGUF's name without its ending; "" for other models."""
    stem = name.rpartition("/")[2]
    return f"^{re.escape(stem[: -len('.gguf')])}$" if stem.lower().endswith(".gguf") else ""


def _matches(pattern: str, name: str) -> bool:
    # the original saved names without escaping them: "phi-2 (1+1).gguf$" means exactly that name
    if pattern.removeprefix("^").removesuffix("$").lower() == name.lower():
        return True
    try:
        return re.match(pattern, name, re.IGNORECASE) is not None
    except (re.error, RecursionError):
        return False
