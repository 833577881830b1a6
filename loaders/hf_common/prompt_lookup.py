"""Prompt lookup: proposes the next tokens from an earlier occurrence of the last ones. Token ids in, token ids out.

Source: Saxena 2023, prompt lookup decoding; transformers' `prompt_lookup_num_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 3  # tokens at the end of the text that are searched for; then fewer


class PromptLookup:
    """For one growing text. Each token is indexed once, so a call has the same cost however long the text is."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}  # an n-gram, and the position after its last occurrence
        self._read = 1  # how much of the text is indexed: every n-gram that ends before this position

    def propose(self, ids: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that followed the last earlier occurrence of the text's end; none if it is new."""
        for end in range(self._read, len(ids)):
            for length in range(1, min(_LONGEST, end) + 1):
                self._follows[tuple(ids[end - length : end])] = end
        self._read = max(self._read, len(ids))
        for length in range(min(_LONGEST, len(ids) - 1), 0, -1):
            if place := self._follows.get(tuple(ids[-length:])):
                return list(ids[place : place + max(count, 0)])
        return []
