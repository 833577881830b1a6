"""What extensions see of a conversation, and what becomes of their answers in it.

Between the tree of messages and the rows that extensions know; it must not store anything.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from modules.chat.conversation import Message
from modules.chat.pairs import rows_of, said_in
from modules.chat.prompt import Prompt
from modules.chat.turn import Turn
from modules.extensions import Extensions, HookContext
from modules.extensions.context import Words


class ChatHooks:
    """The extensions, as a chat asks them. Without one at work everything comes back as it went in."""

    def __init__(self, extensions: Extensions) -> None:
        self._extensions = extensions

    def begin(self, turn: Turn, path: Sequence[Message], words: Words) -> tuple[Turn, HookContext]:
        """The start of a reply that `words` write: the turn with the knobs as extensions want them."""
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
            start_with=turn.start_with,
            custom_system_message=turn.custom_system_message,
            history=_rows(path),
        )
        return replace(turn, params=context.params), context

    def message(self, text: str, context: HookContext) -> tuple[str, dict[str, Any]]:
        """A new message: what the model gets, and what is to be kept of how it is shown."""
        plain = html.escape(text)
        text, visible = self._extensions.message(text, plain, context)
        return text, {"visible": visible} if html.unescape(visible) != text else {}

    def history(self, path: Sequence[Message], context: HookContext | None) -> list[Message]:
        """The messages that the prompt is made of."""
        if context is None or not self._extensions.has("history_modifier"):
            return list(path)
        before = _rows(path)
        rows = self._extensions.history(_rows(path), context)
        if rows == before or not isinstance(rows.get("internal"), list):
            return list(path)
        said = said_in(rows["internal"], rows.get("visible") or rows["internal"], {})
        return [Message(f"extension-{place}", None, each.role, each.text, 0.0) for place, each in enumerate(said)]

    def lead(self, name: str, context: HookContext | None) -> str:
        """What stands between a character's name and its reply."""
        if context is None or not self._extensions.has("bot_prefix_modifier"):
            return ""
        prefix = f"{name}:"
        made = self._extensions.prefix(prefix, context)
        if not made.startswith(prefix):
            context.notes.append(f"An extension wanted {made[:40]!r} in place of {prefix!r}; it stands after the name.")
        return made.removeprefix(prefix).strip()

    def prompt(
        self,
        prompt: Prompt,
        path: Sequence[Message],
        context: HookContext | None,
        count: Callable[[str], int],
        **how: Any,
    ) -> Prompt:
        """The prompt, or the one that an extension makes in its place."""
        if context is None or not self._extensions.has("custom_generate_chat_prompt"):
            return prompt
        said = path[-1].text if path and path[-1].role == "user" else ""
        rows = _rows(path[:-1] if said else path)
        text = self._extensions.chat_prompt(said, context, usual=prompt.text, history=rows, **how)
        return prompt if text is None else replace(prompt, text=text, parts=(), tokens=count(text), dropped=0)

    def shown(self, text: str, context: HookContext) -> dict[str, Any]:
        """What is to be kept of how a finished reply is shown."""
        if not self._extensions.has("output_modifier"):
            return {}
        plain = html.escape(text)
        visible = self._extensions.output(plain, context)
        return {"visible": visible} if visible != plain else {}


def _rows(path: Sequence[Message]) -> dict[str, Any]:
    internal, visible = rows_of(path)
    return {"internal": internal, "visible": visible}
