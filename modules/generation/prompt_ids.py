"""A prompt's token ids: text that is already in the form that the model reads, begun as the user wants it.

Knows nothing of chats; templates that write the start token out themselves are common, so it is never doubled here.
"""

from __future__ import annotations

from errors import utf8
from loaders.base import Tokenizer
from modules.generation.prompt_text import ids_of


def prompt_ids(tokenizer: Tokenizer, text: str, *, add_bos: bool) -> list[int]:
    """The ids of a prompt. With `add_bos` it begins with exactly one start token, where the model has one.

    Without it a start token that is written out at the beginning is left away, too, unless the model never adds one
    by itself: then what looks like a start token belongs to the template (SmolLM2's is "<|im_start|>").
    Raises: InvalidInput, for text that no encoder takes.
    """
    utf8(text)
    ids = ids_of(tokenizer, text)
    start = _start(tokenizer)
    if not start:
        return ids
    while ids[: len(start)] == start:
        ids = ids[len(start) :]
    return start + ids if add_bos else ids


def _start(tokenizer: Tokenizer) -> list[int]:
    """The start token that this tokenizer adds by itself; empty when it adds none."""
    added = tokenizer.encode("", add_bos=True, special=True)[:1]
    # some add an end token only, or a separator: those are not ours to move
    return added if added == tokenizer.encode(tokenizer.bos_token, add_bos=False, special=True) else []
