"""Prompt lookup: guess the next tokens from where the text has said the same before. Token ids in, token ids out.

Source: Saxena 2023, prompt lookup decoding; transformers' `prompt_lookup_num_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 3  # tokens at the end of the text that are looked for; then fewer


def guesses(ids: Sequence[int], count: int) -> list[int]:
    """Up to `count` tokens that followed the last place where the text's end stands; none where it is new."""
    if count < 1:
        return []
    for length in range(min(_LONGEST, len(ids) - 1), 0, -1):
        end = list(ids[-length:])
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start] == end[0] and list(ids[start : start + length]) == end:
                return list(ids[start + length : start + length + count])
    return []
