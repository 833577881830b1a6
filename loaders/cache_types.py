"""The KV cache's type in every spelling that people have: the nearest of those that a loader knows.

llama.cpp, ExLlamaV2, ExLlamaV3 and the original's flags name the same thing in different ways (fp16, q8, 8bit, q4_1,
q8_q4). What is asked for here is never kept less exactly than asked, where the loader has such a type. This module
must not know which loader has which types.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ONE = r"(?:bf|fp|f|iq|q|int)?(\d{1,2})[- ]?(?:bits?)?(?:_(?:0|1|nl))?"
_TYPE = re.compile(_ONE)
_PAIR = re.compile(f"{_ONE}[_,/]{_ONE}")  # of the keys and of the values: ExLlamaV3's q8_q4
_WIDTHS = frozenset({2, 3, 4, 5, 6, 7, 8, 16, 32})


def bits(name: str) -> int:
    """The bits of a number in such a cache, of the more exact half where there are two; 0: this is no cache type."""
    found = _TYPE.fullmatch(name) or _PAIR.fullmatch(name)
    widths = [int(each) for each in found.groups()] if found else []
    return max(widths) if widths and _WIDTHS.issuperset(widths) else 0


def is_cache_type(choices: Sequence[str]) -> bool:
    """Whether an option with these choices says how a cache is kept."""
    return "f16" in choices


def nearest(value: object, choices: Sequence[str]) -> object:
    """The choice that keeps at least as many bits, else the widest; what is no cache type comes back as it is."""
    name = str(value).strip().lower()
    wanted = bits(name)
    if name in choices or not wanted:
        return name if name in choices else value
    plain = sorted(choices, key=lambda each: (bits(each), each.startswith("bf"), not each.endswith("_0")))
    return next((each for each in plain if bits(each) >= wanted), plain[-1])


def is_same(value: object, chosen: str) -> bool:
    """Whether the choice is only another spelling of what was asked for."""
    name = str(value).strip().lower()
    return bits(name) == bits(chosen) and not _PAIR.fullmatch(name.removesuffix("_0").removesuffix("_1"))
