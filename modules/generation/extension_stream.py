"""A reply that an extension writes instead of the model, as a normal stream.

The extension yields the whole text so far each time; what is new becomes a piece. No tokens, no probabilities.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from errors import EngineDied, ExtensionFailed, ModelClosed
from loaders.base import Finish, Report, Token
from modules.extensions import Extension, HookContext
from modules.extensions.context import ModelAccess, use_model_access
from modules.generation.stream import TextStream


def stream_extension_reply(
    extension: Extension, texts: Iterator[Any], context: HookContext, stop: Sequence[str] = ()
) -> TextStream:
    """The reply as a stream. An error in the extension ends the reply with ExtensionFailed."""
    return TextStream(
        _Telling(extension, texts, context.words),
        _PlainText(),
        threading.Event(),
        stop=stop,
        notes=context.notes,
        model=f"extension {extension.name}",
    )


class _Telling:
    """`loaders.base.TokenStream` over an iterator of growing texts."""

    def __init__(self, extension: Extension, texts: Iterator[Any], words: ModelAccess | None) -> None:
        self.report = Report(reuse_reason=f"written by the extension {extension.name}")
        self._extension = extension
        self._texts = texts
        self._words = words
        self._said = ""

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        while True:
            try:
                with use_model_access(self._words):
                    text = str(next(self._texts))
            except StopIteration:
                self.report.finish = Finish.STOP
                raise
            except (ModelClosed, EngineDied):  # the model was unloaded meanwhile: not the script's fault
                raise
            except Exception as error:
                raise ExtensionFailed(self._extension.failed("custom_generate_reply", error)) from error
            if len(text) > len(self._said) and text.startswith(self._said):
                new, self._said = text[len(self._said) :], text
                return Token(-1, new.encode("utf-8", "replace"))


class _PlainText:
    """`loaders.base.Tokenizer` for text that never was tokens."""

    n_vocab = 0
    bos_token = eos_token = ""
    chat_template: str | None = None
    end_ids: frozenset[int] = frozenset()
    control: frozenset[str] = frozenset()
    special_ids: frozenset[int] = frozenset()

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]:
        del text, add_bos, special
        return []

    def piece(self, token: int, *, special: bool = False) -> bytes:
        del token, special
        return b""

    def is_special(self, token: int) -> bool:
        del token
        return False
