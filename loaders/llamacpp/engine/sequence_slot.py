"""One sequence of a KV cache: what it holds and whether it is in use. Knows nothing of llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class SequenceSlot:
    """One sequence of the cache. `ids` are its tokens; `released` is when it was last in use.

    `own`: how many of the tokens are kept for later requests. Those after them were computed for nobody in particular
    (by a yielding request), and may be dropped at any time.
    """

    id: int
    ids: list[int] = field(default_factory=list)
    busy: bool = False
    own: int = 0
    released: float = 0.0
    label: str = ""  # that of the request for which its own tokens were computed
    ahead: str = ""  # that of the yielding request for which those after them were
    lasting: bool = False  # its own tokens may be kept on disk
    doomed: bool = False  # to be emptied as soon as it is no longer in use
    unsettled: bool = False  # shifted, which llama.cpp will do in its next step: until then, it cannot be copied
