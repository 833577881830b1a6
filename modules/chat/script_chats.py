"""What scripts for the original program may do with chats: let the model answer, and read or change what is shown.

A chat is named by the `unique_id` of a state that the page makes. It must not know pages, or how scripts are called.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from errors import InvalidInput
from loaders.params import SamplingParams
from modules.chat.background import BackgroundReply
from modules.chat.characters import insert_names
from modules.chat.formats.legacy_rows import read_row_messages, to_rows
from modules.chat.reply_settings import ReplySettings
from modules.chat.service import ChatService
from modules.chat.store.store import kind_and_character

#: As the original keeps a chat: {"internal": [[user, bot], ...], "visible": ...}.
History = dict[str, Any]

_NO_CHAT = (
    "The state names no chat: its unique_id is empty. Make it in the page with modules.ui.gather_interface_values, "
    "from the components that shared.input_elements names."
)


class ScriptChats:
    """The chats, as scripts use them. May be used from several threads."""

    def __init__(self, chats: ChatService) -> None:
        self._chats = chats

    def history(self, id: str) -> History:
        """The shown branch of a chat; no rows without an id. Raises: NotFound, InvalidName, BadFile."""
        internal, visible = to_rows(self._chats.open(id).path()) if id else ([], [])
        return {"internal": internal, "visible": visible}

    def reply(
        self, text: str, state: Mapping[str, Any], params: SamplingParams, *, regenerate: bool, going_on: bool
    ) -> Iterator[History]:
        """Let the model answer in the state's chat; yields its history as it grows. The reply goes on if nobody reads.

        Raises: UserError.
        """
        id = _named(state)
        turn = _settings(id, state, params)
        if going_on:
            reply = self._chats.continue_(id, turn)
        else:
            reply = self._chats.regenerate(id, turn) if regenerate else self._chats.send(id, text, turn)
        growing = BackgroundReply(reply)
        before = self.history(id)
        for update in growing:
            yield {
                kind: [*rows[:-1], [rows[-1][0], said]]
                for (kind, rows), said in zip(before.items(), (update.text, html.escape(update.text)), strict=True)
            }
        yield self.history(id)  # as it is stored, changed by scripts

    def character(self, id: str) -> str:
        """The character of a chat by its id; empty in the instruct mode."""
        return kind_and_character(id)[1]

    def with_names(self, text: str, user: str, character: str) -> str:
        """A text of a character with both names in place of their placeholders."""
        return insert_names(text, user, character)

    def save(self, history: Mapping[str, Any], id: str) -> None:
        """Store the texts that a script shows instead of a chat's own; these must be the chat's.

        Raises: InvalidInput, Conflict, NotFound, BadFile.
        """
        if not id:
            raise InvalidInput(_NO_CHAT)
        internal, visible = history.get("internal"), history.get("visible")
        if not isinstance(internal, list) or not isinstance(visible, list):
            raise InvalidInput("A history has the keys internal and visible, each with a list of [user, bot].")
        messages = read_row_messages(internal, visible, {})
        with self._chats.changing(id, None) as conversation:
            path = conversation.path()
            if [(each.role, each.text) for each in path] != [(each.role, each.text) for each in messages]:
                raise InvalidInput(
                    "A script may change only the visible texts of a chat, and this history has other messages. "
                    "Nothing was saved."
                )
            for message, given in zip(path, messages, strict=True):
                conversation.set_text(message.id, message.text, visible=given.meta.get("visible"))


def _named(state: Mapping[str, Any]) -> str:
    id = state.get("unique_id")
    if not isinstance(id, str) or not id:
        raise InvalidInput(_NO_CHAT)
    return id


def _settings(id: str, state: Mapping[str, Any], params: SamplingParams) -> ReplySettings:
    """The settings of a reply in a state; the chat's own folder decides on its character."""
    folder, character = kind_and_character(id)
    mode: Any = "instruct" if folder == "instruct" else state.get("mode")
    return ReplySettings(
        mode=mode if folder == "instruct" or mode in ("chat", "chat-instruct") else "chat",
        character=character or "Assistant",
        params=params,
        name1=str(state.get("name1") or "You"),
        user_bio=str(state.get("user_bio") or ""),
        start_with=str(state.get("start_with") or ""),
        custom_system_message=str(state.get("custom_system_message") or ""),
    )
