"""How a model would be loaded: loader, options, and where these come from.

It reads saved settings and flags; it must not know which models are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from errors import InvalidInput, ModelFileError, Unavailable, UnknownName
from loaders.base import Loader
from loaders.cache_types import replace_old_switches
from loaders.forecast import Forecast
from loaders.nearest_value import nearest_value
from loaders.params import LoadOptions
from modules.config.loader_names import normalize_loader_name
from modules.library.model_catalog import ModelCatalog, ModelEntry
from modules.library.model_settings import USER, ModelSettings
from modules.library.model_state import LoaderChoice


@dataclass(frozen=True)
class LoadSpec:
    """A model in the models folder, its loader's name, the options and where they come from."""

    item: ModelEntry
    loader: str
    options: LoadOptions
    reason: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The model's name in the list of models."""
        return self.item.name


class LoadSpecs:
    """Decides how models are loaded. `defaults` are the load options given by flags."""

    def __init__(
        self,
        catalog: ModelCatalog,
        model_settings: ModelSettings,
        loaders: Mapping[str, type[Loader]],
        defaults: Mapping[str, Any],
        *,
        preferred_loader: str = "",
    ) -> None:
        self._catalog = catalog
        self._settings = model_settings
        self._loaders = loaders
        self._defaults = dict(defaults)
        self._preferred = self._known_loader(preferred_loader) if preferred_loader else ""

    def plan(
        self,
        name: str,
        loader: str | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        flags_win: bool = False,
    ) -> LoadSpec:
        """`options` replace single values of `default_options`; `flags_win`: the flags replace them, too.

        Raises: UserError for an unknown name, an invalid option or a missing package.
        """
        item = self._catalog.find(name)
        if item.problem:
            raise InvalidInput(item.problem)
        chosen = self._choose(item, loader)
        return LoadSpec(item, chosen, *self._options(item.name, chosen, options or {}, flags_win=flags_win))

    def loaders_for(self, name: str) -> list[LoaderChoice]:
        """The loaders that can take this model, best first. Raises: UnknownName."""
        return self._choices(self._catalog.find(name))

    def usual_loader(self, name: str) -> str:
        """The loader with which this model would be loaded, installed or not; "" if none can. Raises: UnknownName."""
        return self._usual(self._catalog.find(name))

    def shown(self, name: str, loader: str = "") -> LoadSpec:
        """What the Model tab shows for this model. Raises: UserError."""
        item = self._catalog.find(name)
        loader = self._known_loader(loader or self.usual_loader(name) or next(iter(self._loaders)))
        return LoadSpec(item, loader, *self.default_options(name, loader))

    def default_options(self, name: str, loader: str, *, flags_win: bool = False) -> tuple[LoadOptions, str]:
        """The options with which this model would be loaded, and where they come from.

        From the weakest to the strongest: the loader's own defaults, models/config.yaml, the flags of this start, the
        user's saved settings for the model (`flags_win`: at startup, the last two the other way round). An unreadable
        file is skipped, and the text says so. Raises: UnknownName, InvalidInput.
        """
        name = self._catalog.find(name).name
        loader = self._known_loader(loader)
        saved, reason = self._settings.options_for(name, loader)
        flags = self._flag_options(loader)
        kind = self._loaders[loader].Options
        users = self._settings.user_options_for(name, loader)
        values = {**saved, **users, **flags} if flags_win else {**saved, **flags, **users}
        for option, needed in kind.NEEDS.items():  # the original always saves them; here they would be refused alone
            if not values.get(needed) and option not in flags:
                values.pop(option, None)
        reasons = [reason] if reason else []
        both = [each for each in flags if each in users and users[each] != flags[each]]
        if used := [each for each in flags if each not in both]:
            reasons.append("from the flags: " + ", ".join(used))
        if both:
            names = ", ".join(_written(kind, each, flags[each]) for each in both)
            winner = f"from the flags instead of {USER}: {names}"
            reasons.append(winner if flags_win else f"from {USER} instead of the flags {names}")
        origin = "; ".join(reasons) or "the loader's defaults"
        problems = [each.rstrip(".") for each in self._settings.problems()]
        return kind.parse(values), "; ".join([origin, *problems])

    def save_options(self, name: str, loader: str, options: Mapping[str, Any]) -> None:
        """Save loader and options for this model. Raises: UnknownName, InvalidInput, BadFile,
        Unavailable.
        """
        name = self._catalog.find(name).name
        loader = self._known_loader(loader)
        checked = self._loaders[loader].Options.parse(options)
        self._settings.save(name, loader, checked.model_dump())

    def forecast(self, name: str, loader: str | None, options: Mapping[str, Any]) -> Forecast | None:
        """The memory that the model will take with these options, by device; None if unknown.

        May take a second. Raises: UnknownName, InvalidInput, ModelFileError.
        """
        item = self._catalog.find(name)
        kind = self._loaders[self._known_loader(loader)] if loader else self._loaders[self.loaders_for(name)[0].name]
        return None if item.problem else kind.forecast(item.path, kind.Options.parse(options))

    # --- inside ---

    def _choices(self, item: ModelEntry) -> list[LoaderChoice]:
        scores = {name: loader.accepts(item.path) for name, loader in self._loaders.items()}
        names = sorted((name for name, score in scores.items() if score > 0), key=lambda name: -scores[name])
        return [LoaderChoice(name, scores[name], self._loaders[name].missing()) for name in names]

    def _choose(self, item: ModelEntry, wanted: str | None) -> str:
        """The requested loader, else the usual one; it must be installed."""
        if wanted:
            return self._installed(self._known_loader(wanted))
        if usual := self._usual(item):
            return self._installed(usual)
        reasons = [why for loader in self._loaders.values() if (why := loader.refuses(item.path))]
        raise ModelFileError(
            item.name,
            reasons[0] if reasons else "no installed loader supports it. Use a GGUF version of the model instead.",
        )

    def _usual(self, item: ModelEntry) -> str:
        """Of the loaders that can take it: the saved one, else that of the flags, else the best that is installed, else
        the best; "" if there are none.
        """
        choices = self._choices(item)
        saved = self._settings.loader_for(item.name)
        able = [choice.name for choice in choices]
        wanted = [each for each in (self._lookup(saved) if saved else "", self._preferred) if each in able]
        ready = [choice.name for choice in choices if choice.missing is None]
        return next(iter([*wanted, *ready, *able]), "")

    def _installed(self, name: str) -> str:
        missing = self._loaders[name].missing()
        if missing:
            raise Unavailable(missing)
        return name

    def _options(self, name: str, loader: str, given: Mapping[str, Any], *, flags_win: bool) -> tuple[LoadOptions, str]:
        defaults, reason = self.default_options(name, loader, flags_win=flags_win)
        spellings = type(defaults).spellings()
        strangers = [key for key in given if key not in spellings]
        if strangers:
            raise InvalidInput(
                f"Unknown load option for {loader}: {', '.join(strangers)}. Available options: {', '.join(spellings)}."
            )
        options = defaults.changed(**{spellings[key]: value for key, value in given.items()}) if given else defaults
        found, usual = options.model_dump(), defaults.model_dump()
        self._check_start_only(loader, found)  # whatever the value's spelling
        changed = [each for each in found if found[each] != usual[each]]
        return options, "; ".join([reason, *([f"changed for this load: {', '.join(changed)}"] if changed else [])])

    def _check_start_only(self, loader: str, values: Mapping[str, Any]) -> None:
        """Options that let others' code run can only be set at startup: no saved file and no request can switch them
        on.
        """
        flags = self._flag_options(loader)
        for name, knob in self._loaders[loader].Options.knobs().items():
            if knob.start_only and values.get(name, knob.default) not in (knob.default, flags.get(name)):
                raise InvalidInput(
                    f"{name} can only be enabled at startup: add {knob.flag} to CMD_FLAGS.txt and restart the program."
                )

    def _flag_options(self, loader: str) -> dict[str, Any]:
        """What the flags say for this loader, whose bounds may be narrower than another's."""
        kind = self._loaders[loader].Options
        spellings = kind.spellings()
        given = replace_old_switches(self._defaults, spellings)
        return {spellings[key]: nearest_value(kind, key, value)[0] for key, value in given.items() if key in spellings}

    def _known_loader(self, name: str) -> str:
        found = self._lookup(name)
        if not found:
            raise UnknownName("loader", name, self._loaders)
        return found

    def _lookup(self, name: str) -> str:
        """The loader's own name for a loose spelling; "" if there is none."""
        return next(
            (known for known in self._loaders if normalize_loader_name(known) == normalize_loader_name(name)), ""
        )


def _written(kind: type[LoadOptions], name: str, value: Any) -> str:
    """A flag as it is written: --n-ctx 4096, --cpu, --no-mmap."""
    flag = kind.knobs()[name].flag
    if isinstance(value, bool):
        return flag if value else f"--no-{flag.removeprefix('--')}"
    return f"{flag} {','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
