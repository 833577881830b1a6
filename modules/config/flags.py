"""Reads flags from CMD_FLAGS.txt and the command line into checked values, once at startup.

The file is read first, and the command line overrides it. `-` and `_` are the same in a flag's name; names cannot be
abbreviated. Values are checked where the knobs are declared. This module must not act on any flag.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import BadFlagValue, InvalidInput, UnknownFlag, did_you_mean
from loaders import cache_types
from loaders.nearest_value import nearest_value
from modules.config.flag_catalog import Flag, FlagCatalog, Loaders, Target, explain_inactive
from modules.config.flag_help import render_help
from modules.config.flag_tokens import FILE_NAME, FlagToken, tokens_of_arguments, tokens_of_file, tokens_of_text
from modules.config.ignored_flags import SWITCHED_BOTH_WAYS, UNSUPPORTED_LOADERS
from modules.config.loader_names import normalize_loader_name
from modules.config.server_flags import ServerFlags, openness_warnings
from modules.config.user_data import user_data_folder

__all__ = ["LaunchOptions", "ServerFlags", "read_flags"]

_SIZE = re.compile(r"\d+(?:\.\d+)?\s*(?:[KMGT]i?B?)?", re.IGNORECASE)
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})


@dataclass(frozen=True)
class LaunchOptions:
    """The options of this start. The mappings contain only what was given, under the knobs' own names."""

    server: ServerFlags = field(default_factory=ServerFlags)
    load_options: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # lines to print


def read_flags(argv: Sequence[str], root: Path, loaders: Loaders, file_text: str | None = None) -> LaunchOptions:
    """Read `root`/CMD_FLAGS.txt and the command line. `--help` prints all flags and ends the program.

    With --user-data-dir, the CMD_FLAGS.txt in its folder is read as well; it overrides the other, and the command line
    overrides both. `file_text`: a text to test instead of the user's CMD_FLAGS.txt. Raises: UnknownFlag, BadFlagValue,
    BadFile, InvalidInput.
    """
    catalogue = FlagCatalog.of(loaders)
    if "-h" in argv or "--help" in argv:
        sys.stdout.write(render_help(catalogue))
        raise SystemExit(0)
    asked, arguments = _Reading(catalogue), tokens_of_arguments(argv)
    given = tokens_of_text(file_text, FILE_NAME) if file_text is not None else None
    asked.take(tokens_of_file(root / FILE_NAME))
    asked.take(arguments)
    folder = user_data_folder(root, str(asked.values["server"].get("user_data_dir", "")))
    reading = _Reading(catalogue)
    if folder != root.absolute():
        reading.take(tokens_of_file(root / FILE_NAME))
    reading.take(tokens_of_file(folder / FILE_NAME) if given is None else given)
    reading.take(arguments)
    if user_data_folder(root, str(reading.values["server"].get("user_data_dir", ""))) != folder:
        raise InvalidInput(
            f"--user-data-dir in {folder / FILE_NAME} names another folder. Remove it: it is only read from the "
            f"command line and {root / FILE_NAME}."
        )
    server = reading.server_flags(loaders)
    return LaunchOptions(
        server=server,
        load_options=reading.values["load"],
        sampling=reading.values["sampling"],
        notes=(*reading.notes.values(), *openness_warnings(server)),
    )


class _Reading:
    """The values collected so far. Later values override earlier ones."""

    def __init__(self, catalogue: FlagCatalog) -> None:
        self.catalogue = catalogue
        self.values: dict[Target, dict[str, Any]] = {"server": {}, "load": {}, "sampling": {}}
        self.notes: dict[str, str] = {}
        self.loader_place = ""  # where --loader was given

    def take(self, words: Sequence[FlagToken]) -> None:
        """Read all words of one source."""
        at = 0
        while at < len(words):
            word = words[at]
            if not word.text.startswith("-"):
                raise InvalidInput(
                    f"{word.text!r} {word.place} does not belong to any flag. Put values with spaces in quotes."
                )
            spelling, equals, value = word.text.partition("=")
            given = [value] if equals else []
            at += 1
            name = spelling.removeprefix("--").replace("-", "_")
            takes, name, switch = self._meaning(spelling, name, word)
            while not equals and at < len(words) and not _is_flag(words[at].text):
                if not _wants(takes, given, words[at].text):
                    break
                given.append(words[at].text)
                at += 1
            self._store(FlagToken(spelling, word.place), name, takes, given, switch)

    def server_flags(self, loaders: Loaders) -> ServerFlags:
        """The program's own flags, with the loader under its own name. Raises: BadFlagValue."""
        flags = ServerFlags.parse(self.values["server"])
        if not flags.loader:
            return flags
        wanted = normalize_loader_name(flags.loader)
        for known in loaders:
            if normalize_loader_name(known) == wanted:
                return flags.changed(loader=known)
        for foreign, why in UNSUPPORTED_LOADERS.items():
            if normalize_loader_name(foreign) == wanted:
                self.notes["loader"] = f"--loader {foreign} is accepted but has no effect: {why}."
                return flags.changed(loader="")
        why = (
            f"there is no loader {flags.loader!r}.{did_you_mean(flags.loader, loaders)} Loaders: {', '.join(loaders)}."
        )
        raise BadFlagValue("--loader", self.loader_place, why)

    def _meaning(self, spelling: str, name: str, word: FlagToken) -> tuple[str, str, bool]:
        """The flag's kind of value, its name, and its value if it is given alone."""
        flags = self.catalogue.flags
        if spelling.startswith("--") and name in flags:
            return flags[name].words, name, True
        if spelling.startswith("--") and name in self.catalogue.foreign:
            return self.catalogue.foreign[name].takes, name, True
        positive = name.removeprefix("no_")
        negated = flags.get(positive)
        if spelling.startswith("--") and negated is not None and negated.may_be_negated:
            return "nothing", negated.name, False
        if spelling.startswith("--") and positive in SWITCHED_BOTH_WAYS:
            return "nothing", positive, False
        raise UnknownFlag(spelling, word.place, self.catalogue.spellings())

    def _store(self, spelled: FlagToken, name: str, takes: str, given: list[str], switch: bool) -> None:
        if not given and takes in ("value", "values", "sizes"):
            raise BadFlagValue(spelled.text, spelled.place, "it requires a value.")
        flag = self.catalogue.flags.get(name)
        if flag is None:
            why = self.catalogue.foreign[name].why
            self.notes[name] = f"{spelled.text} is accepted but has no effect: {why}."
            return
        checked = self._checked(spelled, flag, self._value(spelled, takes, given, switch))
        if flag.holder is ServerFlags and flag.name == "loader":
            self.loader_place = spelled.place
        values = self.values[flag.target]
        for other in self.catalogue.synonyms.get(flag.name, ()) if flag.target == "load" else ():
            values.pop(other, None)  # --n_ctx in the file and --ctx-size on the command line are one option
        values[flag.name] = checked
        if explain_inactive(flag):
            self.notes[flag.name] = f"{spelled.text} is accepted but has no effect yet: {explain_inactive(flag)}"

    def _checked(self, spelled: FlagToken, flag: Flag, value: Any) -> Any:
        """The value as its knob checks it, or another loader's option of this name, whose bounds may be wider; else the
        nearest of them, with a note. A cache type is not changed: each loader takes the nearest that it has.
        """
        self.notes.pop(flag.name, None)
        if flag.target == "server":
            try:
                return getattr(flag.holder.parse({flag.name: value}), flag.name)
            except InvalidInput as error:
                raise BadFlagValue(spelled.text, spelled.place, str(error)) from None
        found: list[tuple[Any, str]] = []
        why = ""
        for holder in (flag.holder, *self.catalogue.holders.get(flag.name, ())):
            try:
                found.append(nearest_value(holder, flag.name, value))
            except InvalidInput as error:
                why = why or str(error)
        if not found:
            raise BadFlagValue(spelled.text, spelled.place, why)
        checked, changed = min(found, key=lambda each: _distance(value, *each))
        if changed:
            self.notes[flag.name] = f"{spelled.text} {value} {spelled.place}: {changed}."
        if not cache_types.is_cache_type(flag.knob.choices):
            return checked
        holders = self.catalogue.holders.get(flag.name, ())
        each = [str(getattr(holder.parse({flag.name: value}), holder.spellings()[flag.name])) for holder in holders]
        taken = list(dict.fromkeys(each))
        if not all(cache_types.is_same_cache_type(value, one) for one in taken):
            self.notes[flag.name] = (
                f"{spelled.text} {value}: using the closest type that the model's loader supports: "
                f"{' or '.join(taken)}."
            )
        return checked if len(taken) == 1 else value

    def _value(self, spelled: FlagToken, takes: str, given: list[str], switch: bool) -> Any:
        if takes == "values":
            return tuple(given)
        if takes == "sizes":
            return ",".join(part for word in given for part in word.split(",") if part) if len(given) > 1 else given[0]
        if takes == "perhaps" and not given:
            return "on"
        if takes != "nothing":
            return given[0]
        text = given[0].lower() if given else "true"
        if text not in _YES | _NO:
            raise BadFlagValue(spelled.text, spelled.place, f"it does not take a value (got {given[0]!r}).")
        return (text in _YES) == switch


def _distance(given: Any, checked: Any, changed: str) -> float:
    """How far a value is from what was given; 0 if nothing was changed."""
    if not changed:
        return 0.0
    return abs(float(given) - checked) if isinstance(checked, int | float) else 1.0


def _is_flag(word: str) -> bool:
    """Whether this begins the next flag; quoted text with spaces is a value, as in --extra-flags "--jinja --x"."""
    return word.startswith("--") and " " not in word


def _are_sizes(word: str) -> bool:
    """Whether a word is the share of one or several GPUs: `10`, `3500MiB`, `20,7`, and `10,` with the rest in the next
    word.
    """
    parts = [part for part in word.split(",") if part]
    return bool(parts) and all(_SIZE.fullmatch(part) for part in parts)


def _wants(takes: str, given: Sequence[str], word: str) -> bool:
    """Whether the flag takes this next word after those that it has."""
    match takes:
        case "values":
            return True
        case "nothing":
            return not given and word.lower() in ("true", "false")
        case "sizes":
            return not given or (_are_sizes(given[-1]) and _are_sizes(word))
        case _:
            return not given
