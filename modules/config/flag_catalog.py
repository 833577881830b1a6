"""All accepted flags, collected from the declarations: the program's own, the loaders' and the sampling parameters'.

Parsing, `--help` and the table in docs/flags.md all use this list, so they cannot differ. This module must not read
anything from disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from loaders.base import Loader
from loaders.knobs import Knob, Knobs
from loaders.params import GROUPS as SAMPLING_GROUPS
from loaders.params import SamplingParams
from modules.config.ignored_flags import IgnoredFlag, ignored_flags
from modules.config.server_flags import GROUPS, NOT_YET, ServerFlags

Loaders = Mapping[str, type[Loader]]
Target = Literal["server", "load", "sampling"]


@dataclass(frozen=True)
class Flag:
    """One active flag. `holder` is the set of knobs that declares it and checks its values."""

    knob: Knob
    holder: type[Knobs]
    target: Target
    title: str  # of the group in which it is shown

    @property
    def name(self) -> str:
        """The knob's name, with underscores."""
        return self.knob.name

    @property
    def words(self) -> Literal["nothing", "value", "values", "sizes", "perhaps"]:
        """The values that follow it.

        "perhaps": a choice that includes on and off; alone it means on. "sizes": text that may be one size per GPU,
        separated by commas or spaces.
        """
        match self.knob.kind:
            case "bool":
                return "nothing"
            case "list":
                return "value" if self.target == "sampling" else "values"
            case "choice" if {"on", "off"} <= set(self.knob.choices):
                return "perhaps"
            case "str" if self.target == "load":
                return "sizes"
            case _:
                return "value"

    @property
    def may_be_negated(self) -> bool:
        """Whether `--no-NAME` is accepted: for a switch that is on by default, and for any start value or load option,
        because CMD_FLAGS.txt may have switched it on.
        """
        if self.knob.kind != "bool" or self.knob.name.startswith("no_"):
            return self.is_negated
        return self.is_negated or self.target in ("sampling", "load")

    @property
    def is_negated(self) -> bool:
        """Whether it is a switch that is on by default, so that only `--no-NAME` has an effect."""
        return self.knob.kind == "bool" and bool(self.knob.default)

    @property
    def shown(self) -> str:
        """Its readable spelling with its value: `--n-ctx N`."""
        if self.is_negated:
            return "--no-" + self.knob.flag.removeprefix("--")
        values: dict[str, str] = {"int": "N", "float": "X", "str": "TEXT", "list": "NAME ..."}
        match self.words:
            case "nothing":
                return self.knob.flag
            case "perhaps":
                return f"{self.knob.flag} [{'|'.join(self.knob.choices)}]"
            case _ if self.knob.kind == "choice":
                return f"{self.knob.flag} {'|'.join(self.knob.choices)}"
            case _ if self.target == "sampling" and self.knob.kind == "list":
                return f"{self.knob.flag} NAME,..."
            case _:
                return f"{self.knob.flag} {values[self.knob.kind]}"

    @property
    def shown_default(self) -> str:
        """The default as readable text; empty for a switch or an empty text."""
        default: Any = self.knob.default
        if self.knob.kind == "bool" or default in ("", ()):
            return ""
        if isinstance(default, tuple):
            return "the usual order" if self.name == "sampler_priority" else ", ".join(default)
        return f"{default:g}" if isinstance(default, float) else str(default)


@dataclass(frozen=True)
class FlagCatalog:
    """All flags: the active ones by every accepted spelling (with underscores), and the ignored ones."""

    flags: Mapping[str, Flag]
    foreign: Mapping[str, IgnoredFlag]
    synonyms: Mapping[str, frozenset[str]]  # load option -> names that mean the same to some loader
    holders: Mapping[str, tuple[type[Knobs], ...]]  # load option -> all that declare it, each with its own bounds

    @classmethod
    def of(cls, loaders: Loaders) -> FlagCatalog:
        """Collect the flags of the program with these loaders."""
        flags: dict[str, Flag] = {}
        declared = list(_declared(loaders))
        for flag in declared:
            flags.setdefault(flag.name, flag)
        for flag in declared:  # after all names: an alias of another loader must not hide a name
            for alias in flag.knob.aliases:
                flags.setdefault(alias, flag)
        foreign = {name: flag for name, flag in ignored_flags().items() if name not in flags}
        return cls(flags, foreign, _synonyms(loaders), _holders(loaders))

    @property
    def acting(self) -> list[Flag]:
        """The active flags, each once, in display order."""
        return [flag for name, flag in self.flags.items() if name == flag.name]

    def titles(self) -> dict[str, list[Flag]]:
        """The active flags by the title of their group, in order."""
        groups: dict[str, list[Flag]] = {}
        for flag in self.acting:
            groups.setdefault(flag.title, []).append(flag)
        return groups

    def spellings(self) -> list[str]:
        """Every accepted flag as it is written, to compare a mistyped one with."""
        known = ["--" + name.replace("_", "-") for name in (*self.flags, *self.foreign)]
        return [*known, *(flag.shown for flag in self.acting if flag.is_negated), "--help"]


def _declared(loaders: Loaders) -> Iterator[Flag]:
    for knob in ServerFlags.knobs().values():
        yield Flag(knob, ServerFlags, "server", GROUPS[knob.group])
    for name, loader in loaders.items():
        for knob in loader.Options.knobs().values():
            yield Flag(knob, loader.Options, "load", name)
    for knob in SamplingParams.knobs().values():
        yield Flag(knob, SamplingParams, "sampling", f"Start values: {SAMPLING_GROUPS[knob.group][0].lower()}")


def _synonyms(loaders: Loaders) -> dict[str, frozenset[str]]:
    same: dict[str, set[str]] = {}
    for loader in loaders.values():
        spellings = loader.Options.spellings()
        for spelling, name in spellings.items():
            same.setdefault(spelling, set()).update(s for s, n in spellings.items() if n == name)
    return {spelling: frozenset(others) for spelling, others in same.items()}


def _holders(loaders: Loaders) -> dict[str, tuple[type[Knobs], ...]]:
    found: dict[str, list[type[Knobs]]] = {}
    for loader in loaders.values():
        for spelling in loader.Options.spellings():
            found.setdefault(spelling, []).append(loader.Options)
    return {spelling: tuple(holders) for spelling, holders in found.items()}


def explain_inactive(flag: Flag) -> str:
    """Why this flag has no effect (yet); empty if it has one."""
    return NOT_YET.get(flag.name, "") if flag.target == "server" else ""
