"""Edits of a conversation without the model: texts, versions, branches. Each can be undone.

It must not know of models or prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from errors import NotFound, NothingToDo, encode_utf8
from loaders.banned.pattern import compile_banned_strings
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation, Role
from modules.chat.folders import valid_folder
from modules.chat.formats.attached import kept_files
from modules.chat.formats.conversation_file import conversation_title
from modules.chat.own_settings import OwnSettings
from modules.chat.prompt_knobs import TEMPLATES, PromptKnobs
from modules.chat.service import ChatService
from modules.chat.store.store import ConversationStore

_LONGEST_TITLE = 200


class ConversationEdits:
    """Changes to conversations. May be used from several threads."""

    def __init__(self, chats: ChatService, store: ConversationStore) -> None:
        self._chats = chats
        self._store = store

    def edit(self, id: str, message_id: str, text: str, revision: int | None = None) -> Conversation:
        """Change a message's text; its replies are kept. Raises: UserError."""
        encode_utf8(text, "The message")
        with self._chats.changing(id, revision) as conversation:
            conversation.set_text(message_id, text)
        return conversation

    def version(self, id: str, message_id: str, text: str, revision: int | None = None) -> Conversation:
        """Add a new version of a message, with nothing below it yet. Raises: UserError."""
        encode_utf8(text, "The message")
        with self._chats.changing(id, revision) as conversation:
            old = conversation.message(message_id)
            made = conversation.add(old.role, text, old.parent, **kept_files(old))
            if old.is_greeting:  # another version of a greeting still answers no message
                conversation.set_text(made.id, text, greeting=True)
        return conversation

    def choose_model(self, id: str, name: str, revision: int | None = None) -> Conversation:
        """Let the model of this name answer here, where there are several; "" for the one that is loaded.

        Raises: InvalidInput, Conflict, NotFound, BadFile.
        """
        encode_utf8(name, "The model's name")
        with self._chats.changing(id, revision) as conversation:
            conversation.model = name[:_LONGEST_TITLE]
        return conversation

    def ban_strings(self, id: str, text: str, revision: int | None = None) -> Conversation:
        """Set the strings that replies here must not contain, as in SamplingParams.

        Raises: InvalidInput, Conflict, NotFound, BadFile.
        """
        encode_utf8(text, "The list")
        compile_banned_strings(text, True)
        with self._chats.changing(id, revision) as conversation:
            conversation.meta.pop("banned_strings", None)
            if text.strip():
                conversation.meta["banned_strings"] = text
        return conversation

    def keep_params(self, id: str, params: SamplingParams | None, revision: int | None = None) -> Conversation:
        """Let replies here be generated with these parameters, whatever the page has; None: with the page's.

        Raises: Conflict, NotFound, BadFile.
        """
        with self._chats.changing(id, revision) as conversation:
            replace(OwnSettings.of(conversation), params=params).keep(conversation)
        return conversation

    def reset_param(self, id: str, name: str) -> Conversation:
        """Give one parameter that this conversation keeps its default again, whatever else has changed since.

        Raises: Conflict, NotFound, BadFile.
        """
        with self._chats.changing(id, None) as conversation:
            own = OwnSettings.of(conversation)
            if own.params is not None:
                default = SamplingParams.knobs()[name].default
                replace(own, params=own.params.changed(**{name: default})).keep(conversation)
        return conversation

    def set_system_message(self, id: str, text: str, revision: int | None = None) -> Conversation:
        """Set the system message of this conversation, in the chat modes its context; "": the usual one.

        Raises: InvalidInput, Conflict, NotFound, BadFile.
        """
        encode_utf8(text, "The system message")
        with self._chats.changing(id, revision) as conversation:
            replace(OwnSettings.of(conversation), system=text).keep(conversation)
        return conversation

    def shape_prompt(self, id: str, values: Mapping[str, Any], revision: int | None = None) -> Conversation:
        """Let prompts here be made with these of PromptKnobs, whatever the page has; None: with the page's. Those that
        are not given stay as they are.

        Raises: InvalidInput, Conflict, NotFound, BadFile.
        """
        checked = PromptKnobs.parse({name: value for name, value in values.items() if value is not None})
        encode_utf8("".join(getattr(checked, name) for name in TEMPLATES), "The template")
        with self._chats.changing(id, revision) as conversation:
            own = OwnSettings.of(conversation)
            kept = {name: value for name, value in own.prompt.items() if name not in values}
            kept |= checked.model_dump(include=checked.model_fields_set)
            replace(own, prompt=kept).keep(conversation)
        return conversation

    def reset_settings(self, id: str, revision: int | None = None) -> Conversation:
        """Let this conversation have no settings of its own. Raises: Conflict, NotFound, BadFile."""
        with self._chats.changing(id, revision) as conversation:
            OwnSettings().keep(conversation)
        return conversation

    def pin(self, id: str, pinned: bool, revision: int | None = None) -> Conversation:
        """Pin a conversation to the top of the list, or unpin it. Raises: Conflict, NotFound, BadFile."""
        with self._chats.changing(id, revision) as conversation:
            conversation.pinned = pinned
        return conversation

    def move(self, id: str, folder: str, revision: int | None = None) -> Conversation:
        """Put a conversation into the folder of this name; "" for none. A folder exists while it has conversations.

        Raises: InvalidInput, Conflict, NotFound, BadFile.
        """
        name = valid_folder(folder)
        with self._chats.changing(id, revision) as conversation:
            conversation.folder = name
        return conversation

    def swipe(self, id: str, message_id: str, by: int, revision: int | None = None) -> Conversation:
        """Show the version `by` positions further, up to the last one. Raises: Conflict, NotFound, BadFile."""
        with self._chats.changing(id, revision) as conversation:
            versions = conversation.versions(message_id)
            conversation.select(versions[min(max(versions.index(message_id) + by, 0), len(versions) - 1)])
        return conversation

    def remove(self, id: str, message_id: str, revision: int | None = None) -> Conversation:
        """Remove a message and everything that answers it; another version of it is shown, if there is one.

        Raises: Conflict, NotFound, BadFile.
        """
        with self._chats.changing(id, revision) as conversation:
            others = [each for each in conversation.versions(message_id) if each != message_id]
            conversation.remove(message_id)
            if others:
                conversation.select(others[-1])
        return conversation

    def say(self, id: str, role: Role, text: str, revision: int | None = None) -> Conversation:
        """Add a message at the end without the model: a dummy message or a dummy reply. Raises: UserError."""
        if not text.strip():
            raise NothingToDo("Type a message first.")
        encode_utf8(text, "The message")
        with self._chats.changing(id, revision) as conversation:
            last = conversation.last()
            conversation.add(role, text, last.id if last else None)
        return conversation

    def replace_last(self, id: str, text: str, revision: int | None = None) -> Conversation:
        """Replace the text of the last reply. Raises: UserError."""
        if not text.strip():
            raise NothingToDo("Type the new reply first.")
        last = self._chats.open(id).last()
        if last is None or last.role != "assistant":
            raise NothingToDo("There is no reply to replace yet.")
        return self.edit(id, last.id, text, revision)

    def branch(self, id: str, message_id: str) -> Conversation:
        """A new conversation with this one's messages up to the given one; this one is unchanged. Raises: UserError."""
        conversation = self._chats.open(id)
        path = conversation.path()
        names = [each.id for each in path]
        if message_id not in names:
            raise NotFound("This message is no longer shown. Reload the conversation.")
        made = Conversation(self._store.new_id(id.rpartition("/")[0]), meta=conversation.meta)
        made.title = f"{conversation_title(conversation)} (branch)"[:_LONGEST_TITLE]
        made.model, made.folder = conversation.model, conversation.folder
        for message in path[: names.index(message_id) + 1]:
            made.insert(message)
            made.select(message.id)
        self._store.save(made)
        self._store.records(id).copy(self._store.records(made.id))
        return made
