"""One sequence of a KV cache: what it holds and whether it is in use. Knows nothing of llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Sequence:
    """One sequence of the cache. `ids` are the tokens that it holds; `released` is when it was last in use."""

    id: int
    ids: list[int] = field(default_factory=list)
    busy: bool = False
    released: float = 0.0
    unsettled: bool = False  # shifted, and llama.cpp will do the work in its next step: until then, no copies of it
