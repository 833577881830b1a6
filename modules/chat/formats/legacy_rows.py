"""Converts a branch of a conversation to and from rows of [user, bot], as the original program stores it.

An empty half of a row stands for a missing message. A greeting's user half is a marker. The `visible` rows contain the
same for display: escaped for HTML, or changed by an extension of the original. Pure.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules.chat.conversation import Conversation, Message, Role
from modules.chat.formats.attached import has_attachments
from modules.chat.formats.times import format_time, parse_time

GREETING = "<|BEGIN-VISIBLE-CHAT|>"
Rows = list[list[str]]


@dataclass(frozen=True)
class RowMessage:
    """One message from the rows, with the other versions that newer files of the original keep."""

    role: Role
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    created: float | None = None  # seconds since the epoch, if the file contains it
    model: str = ""
    before: tuple[RowMessage, ...] = ()  # its other versions, in order
    after: tuple[RowMessage, ...] = ()


def to_rows(path: Sequence[Message]) -> tuple[Rows, Rows]:
    """The rows `internal` and `visible` of a branch."""
    internal, visible = [], []
    for user, reply in _paired(path):
        greeting = user is None and reply is not None and reply.is_greeting
        internal.append([user.text if user else GREETING if greeting else "", reply.text if reply else ""])
        visible.append([_shown(user), _shown(reply)])
    return internal, visible


def rows_metadata(conversation: Conversation, path: Sequence[Message]) -> dict[str, Any]:
    """The original's metadata of the rows: times, models, and the versions of each reply."""
    notes: dict[str, Any] = {}
    for row, pair in enumerate(_paired(path)):
        for message in pair:
            if message is None:
                continue
            kept = message.meta.get("original")
            note = dict(kept) if isinstance(kept, dict) else {}
            note.setdefault("timestamp", format_time(message.created))  # unreadable metadata is kept unchanged
            if message.model:
                note["model_name"] = message.model
            versions = [conversation.message(each) for each in conversation.versions(message.id)]
            versions = [each for each in versions if each.role == message.role]
            if len(versions) > 1:
                note["versions"] = [
                    {
                        "content": each.text,
                        "visible_content": _shown(each),
                        "timestamp": format_time(each.created),
                    }
                    for each in versions
                ]
                note["current_version_index"] = versions.index(message)
            notes[f"{message.role}_{row}"] = note
    return notes


def read_row_messages(internal: Rows, visible: Rows, metadata: Mapping[str, Any]) -> list[RowMessage]:
    """The messages in the rows, in order."""
    messages = []
    for number, (user, reply) in enumerate(internal):
        seen = visible[number] if number < len(visible) else ["", ""]
        note = metadata.get(f"user_{number}")
        if user != GREETING and (user or has_attachments(note)):
            messages.append(_said("user", user, seen[0], note))
        if reply:
            said = _said("assistant", reply, seen[1], metadata.get(f"assistant_{number}"), user == GREETING)
            messages.append(said)
    return messages


def adopt_messages(conversation: Conversation, messages: Sequence[RowMessage], created: float) -> None:
    """Make these messages the shown branch: those that exist in the tree are reused, the others are added."""
    parent: str | None = None
    for said in messages:
        match = _found(conversation, parent, said)
        if match is None:
            made = [
                conversation.add(
                    each.role,
                    each.text,
                    parent,
                    model=each.model,
                    created=created if each.created is None else each.created,
                    **each.meta,
                )
                for each in (*said.before, said, *said.after)
            ]
            match = made[len(said.before)].id
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


def _said(role: Role, text: str, seen: Any, note: Any, greeting: bool = False) -> RowMessage:
    meta: dict[str, Any] = {"greeting": True} if greeting else {}
    if isinstance(seen, str) and seen and html.unescape(seen) != text:
        meta["visible"] = seen
    if not isinstance(note, dict):
        return RowMessage(role, text, meta)
    created, model = parse_time(note.get("timestamp")), note.get("model_name")
    own = ("model_name", "versions", "current_version_index", *(("timestamp",) if created is not None else ()))
    rest = {key: value for key, value in note.items() if key not in own}
    if rest:
        meta["original"] = rest
    before, after = _versions(role, text, note, greeting)
    return RowMessage(role, text, meta, created, model if isinstance(model, str) else "", before, after)


def _versions(role: Role, text: str, note: Mapping[str, Any], greeting: bool) -> tuple[tuple[RowMessage, ...], ...]:
    """A message's other versions in the metadata: those before it, and those after it."""
    given = note.get("versions")
    versions = [
        _said(role, each["content"], each.get("visible_content"), _timed(each), greeting)
        for each in (given if isinstance(given, list) else ())
        if isinstance(each, dict) and isinstance(each.get("content"), str)
    ]
    at = note.get("current_version_index")
    if not isinstance(at, int) or not 0 <= at < len(versions) or versions[at].text != text:
        at = next((place for place, each in enumerate(versions) if each.text == text), None)
    if at is None:  # metadata of an earlier message in this row
        return (), ()
    return tuple(filter(_speaks, versions[:at])), tuple(filter(_speaks, versions[at + 1 :]))


def _timed(version: Mapping[str, Any]) -> dict[str, Any]:
    return {"timestamp": version["timestamp"]} if version.get("timestamp") else {}


def _speaks(said: RowMessage) -> bool:
    return bool(said.text)


def _found(conversation: Conversation, parent: str | None, said: RowMessage) -> str | None:
    """The message below `parent` with this text; preferably the shown one."""
    same = [
        each
        for each in conversation.children(parent)
        if (message := conversation.message(each)).role == said.role and message.text == said.text
    ]
    chosen = conversation.chosen(parent)
    return chosen if chosen in same else same[0] if same else None
