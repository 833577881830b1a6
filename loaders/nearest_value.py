"""Values of options as other programs and versions write them, and the nearest value for one that is not possible here.

This module must not know which options there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from errors import InvalidInput
from loaders import cache_types
from loaders.knobs import Knob, Knobs

_ON, _OFF = frozenset({"true", "1", "yes", "enabled"}), frozenset({"false", "0", "no", "disabled"})

#: Option -> pattern of values that other programs have and this one does not -> what is used instead.
Fallbacks = Mapping[str, Mapping[str, str]]

KnobsT = TypeVar("KnobsT", bound=Knobs)


def as_other_writes(value: Any, knob: Knob, fallbacks: Fallbacks) -> Any:
    """The value of an option that another program or version has written: the nearest cache type, a switch that has
    become a choice, "None" for nothing, what is used instead of something that does not exist here.
    """
    if cache_types.is_cache_type(knob.choices):
        return cache_types.nearest_cache_type(value, knob.choices)
    word = str(value).strip().lower()
    if {"on", "off"} <= {*knob.choices} and word in _ON | _OFF:
        return "on" if word in _ON else "off"
    if value == "None" and value not in knob.choices:
        return knob.default
    return _replacement(knob.name, value, fallbacks) or value


def nearest_value(holder: type[KnobsT], spelling: str, value: Any) -> tuple[Any, str]:
    """What `holder` makes of a value for one of its knobs, or the nearest value in its bounds, and what was changed
    ("" if nothing was). Raises: InvalidInput for what is not near to any value.
    """
    name = holder.spellings()[spelling]
    try:
        checked = getattr(holder.parse({name: value}), name)
    except InvalidInput:
        nearest = _within_bounds(holder, name, value)
        if nearest is None:
            raise
        checked = getattr(holder.parse({name: nearest}), name)
        return checked, f"out of range, using {checked:g}" if isinstance(checked, float) else (
            f"out of range, using {checked}"
        )
    replaced = _replacement(name, value, getattr(holder, "FALLBACKS", {}))
    return checked, f"not available here, using {checked}" if replaced else ""


def _replacement(name: str, value: Any, fallbacks: Fallbacks) -> str:
    word = str(value).strip().lower()
    return next((other for pattern, other in fallbacks.get(name, {}).items() if re.fullmatch(pattern, word)), "")


def _within_bounds(holder: type[Knobs], name: str, value: Any) -> int | float | None:
    """The bound that a number exceeds; None for what is not such a number."""
    kind = holder.knobs()[name].kind
    if kind not in ("int", "float") or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    lowest, highest = _bounds(holder, name)
    if lowest <= number <= highest or math.isnan(number):
        return None
    bound = lowest if number < lowest else highest
    return int(bound) if kind == "int" else bound


def _bounds(holder: type[Knobs], name: str) -> tuple[float, float]:
    limits = holder.model_fields[name].metadata
    lowest = max((float(each.ge) for each in limits if getattr(each, "ge", None) is not None), default=-math.inf)
    highest = min((float(each.le) for each in limits if getattr(each, "le", None) is not None), default=math.inf)
    return lowest, highest
