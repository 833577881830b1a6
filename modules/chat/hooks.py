"""Calls extensions for a conversation and applies their results.

It converts between the tree of messages and the rows that extensions know; it must not store anything.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from modules.chat.conversation import Message
from modules.chat.formats.legacy_rows import read_row_messages, to_rows
from modules.chat.prompt.build import ChatPrompt
from modules.chat.reply_settings import ReplySettings
from modules.extensions import Extensions, HookContext
from modules.extensions.context import ModelAccess


class ChatHooks:
    """The extensions, as a chat calls them. Without any, everything is returned unchanged."""

    def __init__(self, extensions: Extensions) -> None:
        self._extensions = extensions

    @property
    def may_write_messages(self) -> bool:
        """Whether an extension may make a message out of nothing, as those do that send a picture."""
        return self._extensions.has("chat_input_modifier")

    def begin(
        self, turn: ReplySettings, path: Sequence[Message], words: ModelAccess
    ) -> tuple[ReplySettings, HookContext]:
        """The start of a reply by the model `words`: the settings with the knobs as changed by extensions."""
        if not self._extensions.active:
            return turn, HookContext(turn.params, is_chat=True, words=words)
        context = self._extensions.begin(
            turn.params,
            is_chat=True,
            words=words,
            mode=turn.mode,
            character_menu=turn.character,
            name1=turn.name1,
            name2=turn.character,
            user_bio=turn.user_bio,
            start_with=turn.start_with,
            custom_system_message=turn.custom_system_message,
            history=_rows(path),
        )
        return replace(turn, params=context.params), context

    def message(self, text: str, context: HookContext) -> tuple[str, dict[str, Any]]:
        """A new message: the text for the model, and the display text to save."""
        plain = html.escape(text)
        text, visible = self._extensions.message(text, plain, context)
        return text, {"visible": visible} if html.unescape(visible) != text else {}

    def history(self, path: Sequence[Message], context: HookContext | None) -> list[Message]:
        """The messages for the prompt."""
        if context is None or not self._extensions.has("history_modifier"):
            return list(path)
        before = _rows(path)
        rows = self._extensions.history(_rows(path), context)
        if rows == before or not isinstance(rows.get("internal"), list):
            return list(path)
        said = read_row_messages(rows["internal"], rows.get("visible") or rows["internal"], {})
        return [Message(f"extension-{place}", None, each.role, each.text, 0.0) for place, each in enumerate(said)]

    def lead(self, name: str, context: HookContext | None) -> str:
        """The text between a character's name and its reply."""
        if context is None or not self._extensions.has("bot_prefix_modifier"):
            return ""
        prefix = f"{name}:"
        made = self._extensions.prefix(prefix, context)
        if not made.startswith(prefix):
            context.notes.append(
                f"An extension tried to replace {prefix!r} with {made[:40]!r}; its text was added after the name "
                "instead."
            )
        return made.removeprefix(prefix).strip()

    def prompt(
        self,
        prompt: ChatPrompt,
        path: Sequence[Message],
        context: HookContext | None,
        count: Callable[[str], int],
        **how: Any,
    ) -> ChatPrompt:
        """The prompt, or the one that an extension builds instead."""
        if context is None or not self._extensions.has("custom_generate_chat_prompt"):
            return prompt
        said = path[-1].text if path and path[-1].role == "user" else ""
        rows = _rows(path[:-1] if said else path)
        text = self._extensions.chat_prompt(said, context, usual=prompt.text, history=rows, **how)
        return prompt if text is None else replace(prompt, text=text, parts=(), tokens=count(text), dropped=0)

    def shown(self, text: str, context: HookContext) -> dict[str, Any]:
        """The display text to save for a finished reply."""
        if not self._extensions.has("output_modifier"):
            return {}
        plain = html.escape(text)
        visible = self._extensions.output(plain, context)
        return {"visible": visible} if visible != plain else {}


def _rows(path: Sequence[Message]) -> dict[str, Any]:
    internal, visible = to_rows(path)
    return {"internal": internal, "visible": visible}
