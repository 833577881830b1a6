"""Encodes a prompt that is already in the form that the model reads, with at most one start token.

Knows nothing of chats. Templates that write the start token themselves are common, so it is never doubled here.
"""

from __future__ import annotations

from errors import encode_utf8
from loaders.base import Tokenizer
from modules.generation.prompt_text import encode_prompt_text


def encode_prompt(tokenizer: Tokenizer, text: str, *, add_bos: bool) -> list[int]:
    """The ids of a prompt. With `add_bos` it begins with exactly one start token, if the model has one.

    Without it, a start token written out at the beginning is removed as well, unless the model never adds one by
    itself: then what looks like a start token belongs to the template (SmolLM2's is "<|im_start|>"). Raises:
    InvalidInput, for text that cannot be encoded.
    """
    encode_utf8(text)
    ids = encode_prompt_text(tokenizer, text)
    start = _start(tokenizer)
    if not start:
        return ids
    while ids[: len(start)] == start:
        ids = ids[len(start) :]
    return start + ids if add_bos else ids


def _start(tokenizer: Tokenizer) -> list[int]:
    """The start token that this tokenizer adds by itself; empty if it adds none."""
    added = tokenizer.encode("", add_bos=True, special=True)[:1]
    # some add only an end token or a separator: those stay where they are
    return added if added == tokenizer.encode(tokenizer.bos_token, add_bos=False, special=True) else []
