"""Flags: from CMD_FLAGS.txt and the command line to checked values, once, at the start.

The file is read first and the command line wins. `-` and `_` are the same in a flag's name; names are not abbreviated.
Values are checked where the knobs are declared. This module must not act on any flag.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import BadFlagValue, InvalidInput, UnknownFlag, nearest
from loaders import cache_types
from modules.config.catalogue import Catalogue, Flag, Loaders, Target, not_yet
from modules.config.flag_help import render_help
from modules.config.flag_words import FILE_NAME, Word, words_of_arguments, words_of_file, words_of_text
from modules.config.foreign_flags import FOREIGN_LOADERS, SWITCHED_BOTH_WAYS
from modules.config.loader_names import loader_key
from modules.config.server_flags import ServerFlags, openness_warnings
from modules.config.user_data import folder_of

__all__ = ["Launch", "ServerFlags", "read"]

_SIZE = re.compile(r"\d+(?:\.\d+)?\s*(?:[KMGT]i?B?)?", re.IGNORECASE)
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})


@dataclass(frozen=True)
class Launch:
    """What this start was asked for. The mappings hold only what was given, under the knobs' own names."""

    server: ServerFlags = field(default_factory=ServerFlags)
    load_options: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # lines to print


def read(argv: Sequence[str], root: Path, loaders: Loaders, file_text: str | None = None) -> Launch:
    """Read `root`/CMD_FLAGS.txt and the command line. `--help` prints all flags and ends the program.

    With --user-data-dir its folder's CMD_FLAGS.txt counts as well, more than the other and less than the command line.
    `file_text`: what stands in the user's CMD_FLAGS.txt instead, to try it.
    Raises: UnknownFlag, BadFlagValue, BadFile, InvalidInput.
    """
    catalogue = Catalogue.of(loaders)
    if "-h" in argv or "--help" in argv:
        sys.stdout.write(render_help(catalogue))
        raise SystemExit(0)
    asked, arguments = _Reading(catalogue), words_of_arguments(argv)
    given = words_of_text(file_text, FILE_NAME) if file_text is not None else None
    asked.take(words_of_file(root / FILE_NAME))
    asked.take(arguments)
    folder = folder_of(root, str(asked.values["server"].get("user_data_dir", "")))
    reading = _Reading(catalogue)
    if folder != root.absolute():
        reading.take(words_of_file(root / FILE_NAME))
    reading.take(words_of_file(folder / FILE_NAME) if given is None else given)
    reading.take(arguments)
    if folder_of(root, str(reading.values["server"].get("user_data_dir", ""))) != folder:
        raise InvalidInput(
            f"--user-data-dir in {folder / FILE_NAME} names another folder. Take it out there: it counts on the "
            f"command line and in {root / FILE_NAME}."
        )
    server = reading.server_flags(loaders)
    return Launch(
        server=server,
        load_options=reading.values["load"],
        sampling=reading.values["sampling"],
        notes=(*reading.notes.values(), *openness_warnings(server)),
    )


class _Reading:
    """The values gathered so far. What is taken later wins."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.values: dict[Target, dict[str, Any]] = {"server": {}, "load": {}, "sampling": {}}
        self.notes: dict[str, str] = {}
        self.loader_place = ""  # where --loader was given

    def take(self, words: Sequence[Word]) -> None:
        """Read one source of words from its first to its last."""
        at = 0
        while at < len(words):
            word = words[at]
            if not word.text.startswith("-"):
                raise InvalidInput(
                    f"{word.text!r} {word.place} does not belong to a flag. A value with spaces needs quotes around it."
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
            self._store(Word(spelling, word.place), name, takes, given, switch)

    def server_flags(self, loaders: Loaders) -> ServerFlags:
        """The program's own flags, with the loader under its own name. Raises: BadFlagValue."""
        flags = ServerFlags.parse(self.values["server"])
        if not flags.loader:
            return flags
        wanted = loader_key(flags.loader)
        for known in loaders:
            if loader_key(known) == wanted:
                return flags.changed(loader=known)
        for foreign, why in FOREIGN_LOADERS.items():
            if loader_key(foreign) == wanted:
                self.notes["loader"] = f"--loader {foreign} is accepted and does nothing here: {why}."
                return flags.changed(loader="")
        why = f"there is no loader {flags.loader!r}.{nearest(flags.loader, loaders)} Loaders: {', '.join(loaders)}."
        raise BadFlagValue("--loader", self.loader_place, why)

    def _meaning(self, spelling: str, name: str, word: Word) -> tuple[str, str, bool]:
        """What follows the flag, its name, and what it means when it stands alone."""
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

    def _store(self, spelled: Word, name: str, takes: str, given: list[str], switch: bool) -> None:
        if not given and takes in ("value", "values", "sizes"):
            raise BadFlagValue(spelled.text, spelled.place, "a value must follow it.")
        flag = self.catalogue.flags.get(name)
        if flag is None:
            why = self.catalogue.foreign[name].why
            self.notes[name] = f"{spelled.text} is accepted and does nothing here: {why}."
            return
        checked = self._checked(spelled, flag, self._value(spelled, takes, given, switch))
        if flag.holder is ServerFlags and flag.name == "loader":
            self.loader_place = spelled.place
        values = self.values[flag.target]
        for other in self.catalogue.synonyms.get(flag.name, ()) if flag.target == "load" else ():
            values.pop(other, None)  # --n_ctx in the file and --ctx-size on the command line are one option
        values[flag.name] = checked
        if not_yet(flag):
            self.notes[flag.name] = f"{spelled.text} is accepted and does nothing yet: {not_yet(flag)}"

    def _checked(self, spelled: Word, flag: Flag, value: Any) -> Any:
        """The value as its knob has it. A cache type stays as given: each loader takes the nearest that it has."""
        try:
            checked = getattr(flag.holder.parse({flag.name: value}), flag.name)
        except InvalidInput as error:
            raise BadFlagValue(spelled.text, spelled.place, str(error)) from None
        if not cache_types.is_cache_type(flag.knob.choices):
            return checked
        holders = self.catalogue.holders.get(flag.name, ())
        each = [str(getattr(holder.parse({flag.name: value}), holder.spellings()[flag.name])) for holder in holders]
        taken = list(dict.fromkeys(each))
        self.notes.pop(flag.name, None)
        if not all(cache_types.is_same(value, one) for one in taken):
            self.notes[flag.name] = (
                f"{spelled.text} {value}: the nearest type that the model's loader has is used: {' or '.join(taken)}."
            )
        return checked if len(taken) == 1 else value

    def _value(self, spelled: Word, takes: str, given: list[str], switch: bool) -> Any:
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
            raise BadFlagValue(spelled.text, spelled.place, f"it is a switch and takes no value ({given[0]!r}).")
        return (text in _YES) == switch


def _is_flag(word: str) -> bool:
    """Whether this begins the next flag; a quoted text with spaces is a value, as in --extra-flags "--jinja --x"."""
    return word.startswith("--") and " " not in word


def _are_sizes(word: str) -> bool:
    """Whether a word is one card's share, or several: `10`, `3500MiB`, `20,7`, and `10,` with the rest in the next."""
    parts = [part for part in word.split(",") if part]
    return bool(parts) and all(_SIZE.fullmatch(part) for part in parts)


def _wants(takes: str, given: Sequence[str], word: str) -> bool:
    """Whether the flag takes this next word, after those that it has."""
    match takes:
        case "values":
            return True
        case "nothing":
            return not given and word.lower() in ("true", "false")
        case "sizes":
            return not given or (_are_sizes(given[-1]) and _are_sizes(word))
        case _:
            return not given
