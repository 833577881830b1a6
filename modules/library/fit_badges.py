"""Where each model in the catalog would fit, in a few words, by the same computation as plan and load.

For a model with a forecast in the Model tab, the badge shows that; for others, only the headers are read, so that a
list of hundreds of files appears at once. It must not know how a badge is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from errors import UserError
from loaders.base import Loader
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.params import LoadOptions
from loaders.remote.entry import is_entry
from modules.library.model_catalog import ModelEntry
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from modules.library.system_memory import SystemMemory, badge

_FRESH = 30.0  # seconds for which a forecast is valid, because free memory changes
_COARSE = 2**28  # a smaller change of free bytes does not change a badge
_KEPT = 4096  # badges

_Settings = tuple[str, LoadOptions]


class FitBadges:
    """May be used from several threads."""

    def __init__(
        self, models: ModelManager, saved: ModelSettings, machine: SystemMemory, loaders: Mapping[str, type[Loader]]
    ) -> None:
        self._models, self._saved, self._machine, self._loaders = models, saved, machine, loaders
        self._lock = threading.Lock()
        self._settings: dict[str, tuple[Any, _Settings | None]] = {}
        self._forecasts: dict[str, tuple[float, _Settings, Forecast]] = {}
        self._glances: dict[tuple[Any, ...], str] = {}

    def forecast(self, name: str, loader: str, options: Mapping[str, Any]) -> Forecast | None:
        """As that of ModelManager; the model's badge shows it if these are the options with which it would be
        loaded.
        """
        found = self._models.forecast(name, loader, options)
        if found:
            told = (loader, self._loaders[loader].Options.parse(options))
            with self._lock:
                self._forecasts = {**_young(self._forecasts), name: (time.monotonic(), told, found)}
        return found

    def of(self, item: ModelEntry) -> str:
        """A few words; "" if unknown, or if it is on another server."""
        if is_entry(item.path):
            return ""
        settings = self._settings_of(item)
        if settings is None:
            return self._machine.fits(item.size)
        with self._lock:
            at, told, found = self._forecasts.get(item.name, (float("-inf"), None, None))
        if found and told == settings and time.monotonic() - at < _FRESH:
            return badge(found)
        return self._glanced(item, settings, self._machine.cards())

    def _settings_of(self, item: ModelEntry) -> _Settings | None:
        """The loader and the options that it would be loaded with."""
        stamp = (item, self._saved.stamp())
        with self._lock:
            known, settings = self._settings.get(item.name, (None, None))
        if known == stamp:
            return settings
        try:
            shown = self._models.shown(item.name)
            settings = (shown.loader, shown.options)
        except UserError:
            settings = None
        with self._lock:
            self._settings[item.name] = (stamp, settings)
        return settings

    def _glanced(self, item: ModelEntry, settings: _Settings, cards: Sequence[Gpu]) -> str:
        free = (self._machine.free().memory // _COARSE, *(card.free // _COARSE for card in cards))
        key = (item, *settings, free)
        with self._lock:
            if key in self._glances:
                return self._glances[key]
        try:
            found = self._loaders[settings[0]].quick_forecast(item.path, settings[1], cards)
            words = badge(found) if found else self._machine.fits(item.size)
        except (UserError, OSError):  # errors are shown next to its forecast
            words = ""
        with self._lock:
            if len(self._glances) >= _KEPT:
                self._glances.clear()
            self._glances[key] = words
        return words


def _young(known: Mapping[str, tuple[float, _Settings, Forecast]]) -> dict[str, tuple[float, _Settings, Forecast]]:
    now = time.monotonic()
    return {name: each for name, each in known.items() if now - each[0] < _FRESH}
