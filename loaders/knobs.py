"""What a knob is: one field of a pydantic model with everything that its users need.

A knob is declared once, with `knob(...)` in a subclass of `Knobs`. Its control in the browser, command-line flag, API
field, preset key and documentation are all generated from the `Knob` records of `Knobs.knobs()`. This module must not
know which knobs there are, or who shows them.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from typing_extensions import Self

from errors import InvalidInput

Kind = Literal["bool", "int", "float", "str", "choice", "list"]


@dataclass(frozen=True, slots=True)
class Knob:
    """One knob as its users see it. `minimum`, `maximum` and `step` are the control's range, not the hard bounds."""

    name: str
    kind: Kind
    default: Any
    neutral: Any
    label: str
    help: str
    group: str
    minimum: float | None
    maximum: float | None
    step: float | None
    choices: tuple[str, ...]
    lines: int
    preset: bool
    advanced: bool
    aliases: tuple[str, ...]
    start_only: bool
    help_off: str = ""

    @property
    def flag(self) -> str:
        """The command-line spelling: `--max-new-tokens`. Underscores are accepted too."""
        return "--" + self.name.replace("_", "-")

    def is_neutral(self, value: Any) -> bool:
        """Whether this value changes nothing about the model's own distribution or the engine's default."""
        return bool(value == self.neutral)


def knob(
    default: Any,
    *,
    help: str,
    group: str,
    label: str | None = None,
    ge: float | None = None,
    le: float | None = None,
    range: tuple[float, float, float] | None = None,
    neutral: Any = None,
    lines: int = 1,
    preset: bool = False,
    advanced: bool = False,
    aliases: tuple[str, ...] = (),
    start_only: bool = False,
    help_off: str = "",
) -> Any:
    """Declare a knob. `ge` and `le` are hard bounds; `range` is (minimum, maximum, step) of the control.

    `neutral` is the value that changes nothing (the default, unless given); `preset`: part of presets; `advanced`:
    collapsed by default; `aliases`: other spellings in users' files and clients; `start_only`: it lets code run on this
    machine, so only a flag at startup can switch it on; `help_off`: what `--no-NAME` does, for a switch that is on by
    default.
    """
    extra = {
        "label": label,
        "group": group,
        "range": range,
        "neutral": neutral,
        "lines": lines,
        "preset": preset,
        "advanced": advanced,
        "aliases": aliases,
        "start_only": start_only,
        "help_off": help_off,
    }
    return Field(default, ge=ge, le=le, description=help, json_schema_extra={"knob": extra})


class Knobs(BaseModel):
    """A set of knobs. Values are immutable: `changed(temperature=1)` returns a validated copy."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    @cache
    def knobs(cls) -> Mapping[str, Knob]:
        """Every knob of this set by name, in declaration order."""
        return types.MappingProxyType({name: _view(name, info) for name, info in cls.model_fields.items()})

    @classmethod
    @cache
    def spellings(cls) -> Mapping[str, str]:
        """Every accepted spelling (names and aliases) and its knob."""
        known = {name: name for name in cls.knobs()}
        for name, each in cls.knobs().items():
            known.update(dict.fromkeys(each.aliases, name))
        return types.MappingProxyType(known)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from untrusted values; an invalid one becomes a sentence with the knob and its bounds.

        Raises: InvalidInput.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidInput(" ".join(_sentence(detail) for detail in error.errors())) from None

    def changed(self, **values: Any) -> Self:
        """A validated copy with some values replaced. Raises: InvalidInput."""
        return type(self).parse({**self.model_dump(), **values})

    def differing(self) -> dict[str, Any]:
        """The knobs whose value is not their default: what is worth saving."""
        known = type(self).knobs()
        return {name: value for name, value in self.model_dump().items() if value != known[name].default}

    @model_validator(mode="before")
    @classmethod
    def _rename_aliases(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        spellings = cls.spellings()
        named = {key: value for key, value in values.items() if spellings.get(key, key) == key}
        for key, value in values.items():
            named.setdefault(spellings.get(key, key), value)
        return named


def _view(name: str, info: FieldInfo) -> Knob:
    extra = info.json_schema_extra
    declared: Any = extra["knob"] if isinstance(extra, dict) else None
    if declared is None:
        raise TypeError(f"{name} is declared without knob(...)")
    kind, choices = _kind(info.annotation)
    low, high, step = declared["range"] or (None, None, None)
    return Knob(
        name=name,
        kind=kind,
        default=info.default,
        neutral=info.default if declared["neutral"] is None else declared["neutral"],
        label=declared["label"] or name,
        help=info.description or "",
        group=declared["group"],
        minimum=low,
        maximum=high,
        step=step,
        choices=choices,
        lines=declared["lines"],
        preset=declared["preset"],
        advanced=declared["advanced"],
        aliases=tuple(declared["aliases"]),
        start_only=declared["start_only"],
        help_off=declared["help_off"],
    )


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice", tuple(str(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (tuple, list):
        return "list", ()
    kinds: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "str"}
    return kinds[annotation], ()


def _sentence(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"]) or "the input"
    if detail["type"] == "extra_forbidden":
        return f"Unknown option {name}."
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "int_parsing_size":
        message = "is too large"
    given = repr(detail["input"])
    shown = given if len(given) <= 60 else f"{given[:57]}..."
    return f"{name} {message} (got {shown})."
