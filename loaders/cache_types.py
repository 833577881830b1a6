"""KV cache types in all common spellings, mapped to the nearest type that a loader supports.

llama.cpp, ExLlamaV2, ExLlamaV3 and the original's flags have different names for the same types (fp16, q8, 8bit, q4_1,
q8_q4). The result is never less precise than requested, if the loader has such a type. This module must not know which
loader has which types.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_ONE = r"(?:bf|fp|f|iq|q|int)?(\d{1,2})[- ]?(?:bits?)?(?:_(?:0|1|nl))?"
_TYPE = re.compile(_ONE)
_PAIR = re.compile(f"{_ONE}[_,/]{_ONE}")  # of the keys and of the values: ExLlamaV3's q8_q4
_OLD_SWITCHES = {"cache_8bit": "q8_0", "cache_4bit": "q4_0"}  # of both, the original takes the latter for a GGUF
_WIDTHS = frozenset({2, 3, 4, 5, 6, 7, 8, 16, 32})


def cache_type_bits(name: str) -> int:
    """The bits per value of such a cache, of the more precise half if there are two; 0: not a cache type."""
    found = _TYPE.fullmatch(name) or _PAIR.fullmatch(name)
    widths = [int(each) for each in found.groups()] if found else []
    return max(widths) if widths and _WIDTHS.issuperset(widths) else 0


def is_cache_type(choices: Sequence[str]) -> bool:
    """Whether an option with these choices is a cache type."""
    return "f16" in choices


def nearest_cache_type(value: object, choices: Sequence[str]) -> object:
    """The choice with at least as many bits, else the widest; a value that is not a cache type is returned
    unchanged.
    """
    name = str(value).strip().lower()
    wanted = cache_type_bits(name)
    if name in choices or not wanted:
        return name if name in choices else value
    plain = sorted(choices, key=lambda each: (cache_type_bits(each), each.startswith("bf"), not each.endswith("_0")))
    return next((each for each in plain if cache_type_bits(each) >= wanted), plain[-1])


def replace_old_switches(values: Mapping[str, Any], options: Collection[str]) -> dict[str, Any]:
    """Values of load options with `cache_8bit` and `cache_4bit`, which came before `cache_type`, as that option, for a
    loader whose `options` include only that.
    """
    made = dict(values)
    if "cache_type" in options and "cache_type" not in made and "cache_8bit" not in options:
        named = [name for name in _OLD_SWITCHES if str(values.get(name)).lower() in ("true", "1")]
        if named:
            made["cache_type"] = _OLD_SWITCHES[named[-1]]
    return made


def is_same_cache_type(value: object, chosen: str) -> bool:
    """Whether the choice is only another spelling of the requested type."""
    name = str(value).strip().lower()
    return cache_type_bits(name) == cache_type_bits(chosen) and not _PAIR.fullmatch(
        name.removesuffix("_0").removesuffix("_1")
    )
