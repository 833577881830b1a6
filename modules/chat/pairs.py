"""A branch of a conversation as rows of [user, bot], the way the original program keeps it, and back.

A row's empty half stands for a message that is not there. A greeting's user half is a marker. `visible` rows hold the
same for the screen: escaped for HTML, or changed by an extension of the original. Pure.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules.chat.conversation import Conversation, Message, Role

GREETING = "<|BEGIN-VISIBLE-CHAT|>"
Rows = list[list[str]]

_TIME = "%b %d, %Y %H:%M"  # how the original writes a time


@dataclass(frozen=True)
class Said:
    """One message as the rows tell it, with the earlier versions that newer files of the original keep."""

    role: Role
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    versions: tuple[str, ...] = ()  # all of them, this one included; empty when there is only one


def rows_of(path: Sequence[Message]) -> tuple[Rows, Rows]:
    """The rows `internal` and `visible` of a branch."""
    internal, visible = [], []
    for user, reply in _paired(path):
        greeting = user is None and reply is not None and reply.is_greeting
        internal.append([user.text if user else GREETING if greeting else "", reply.text if reply else ""])
        visible.append([_shown(user), _shown(reply)])
    return internal, visible


def metadata_of(conversation: Conversation, path: Sequence[Message]) -> dict[str, Any]:
    """The original's notes about the rows: times, models, and the versions of each reply."""
    notes: dict[str, Any] = {}
    for row, pair in enumerate(_paired(path)):
        for message in pair:
            if message is None:
                continue
            kept = message.meta.get("original")
            note = dict(kept) if isinstance(kept, dict) else {}
            note["timestamp"] = time.strftime(_TIME, time.localtime(message.created))
            if message.model:
                note["model_name"] = message.model
            versions = [conversation.message(each) for each in conversation.versions(message.id)]
            versions = [each for each in versions if each.role == message.role]
            if len(versions) > 1:
                note["versions"] = [
                    {
                        "content": each.text,
                        "visible_content": _shown(each),
                        "timestamp": time.strftime(_TIME, time.localtime(each.created)),
                    }
                    for each in versions
                ]
                note["current_version_index"] = versions.index(message)
            notes[f"{message.role}_{row}"] = note
    return notes


def said_in(internal: Rows, visible: Rows, metadata: Mapping[str, Any]) -> list[Said]:
    """The messages that the rows tell, in order."""
    messages = []
    for number, (user, reply) in enumerate(internal):
        seen = visible[number] if number < len(visible) else ["", ""]
        if user and user != GREETING:
            messages.append(_said("user", user, seen[0], metadata.get(f"user_{number}")))
        if reply:
            said = _said("assistant", reply, seen[1], metadata.get(f"assistant_{number}"), user == GREETING)
            messages.append(said)
    return messages


def adopt(conversation: Conversation, messages: Sequence[Said], created: float) -> None:
    """Make these messages the branch that is shown: those that the tree has are found again, the others are added."""
    parent: str | None = None
    for said in messages:
        match = _found(conversation, parent, said)
        if match is None:
            for text in said.versions:
                if text != said.text:
                    conversation.add(said.role, text, parent, created=created, **_kept(said.meta))
            match = conversation.add(said.role, said.text, parent, created=created, **said.meta).id
        conversation.select(match)
        parent = match
    conversation.end_at(parent)


def _paired(path: Sequence[Message]) -> list[tuple[Message | None, Message | None]]:
    rows: list[tuple[Message | None, Message | None]] = []
    for message in path:
        if message.role == "user":
            rows.append((message, None))
        elif rows and rows[-1][1] is None:
            rows[-1] = (rows[-1][0], message)
        else:
            rows.append((None, message))
    return rows


def _shown(message: Message | None) -> str:
    if message is None:
        return ""
    return str(message.meta["visible"]) if "visible" in message.meta else html.escape(message.text)


def _said(role: Role, text: str, seen: str, note: Any, greeting: bool = False) -> Said:
    meta: dict[str, Any] = {"greeting": True} if greeting else {}
    if seen and html.unescape(seen) != text:
        meta["visible"] = seen
    if not isinstance(note, dict):
        return Said(role, text, meta)
    own = ("timestamp", "model_name", "versions", "current_version_index")
    rest = {key: value for key, value in note.items() if key not in own}
    if rest:
        meta["original"] = rest
    given = note.get("versions")
    versions = given if isinstance(given, list) else []
    texts = [each.get("content") for each in versions if isinstance(each, dict)]
    if text not in texts:  # a note about what stood in this row before
        texts = []
    return Said(role, text, meta, tuple(each for each in texts if isinstance(each, str) and each))


def _found(conversation: Conversation, parent: str | None, said: Said) -> str | None:
    """The message below `parent` that says this; the one that is shown first."""
    same = [
        each
        for each in conversation.children(parent)
        if (message := conversation.message(each)).role == said.role and message.text == said.text
    ]
    chosen = conversation.chosen(parent)
    return chosen if chosen in same else same[0] if same else None


def _kept(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What of a message's notes holds for its other versions, too."""
    return {key: value for key, value in meta.items() if key == "greeting"}
