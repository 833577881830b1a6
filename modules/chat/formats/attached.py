"""What the original keeps beside a message's text: attached files of the user, and the tool calls of a reply.

It stores them in the metadata of its rows, and its models read them together with the text; so does the prompt here,
and the page shows them. The stored text and metadata stay as they are. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loaders import safe_json
from modules.chat.conversation import Message
from modules.families import saved_calls
from modules.families.saved_reply import split_reply


@dataclass(frozen=True)
class Attachment:
    """A file of a user's message. `text`: its contents, None for a picture, which no model here can see."""

    name: str
    text: str | None
    url: str = ""  # of a web page


def has_attachments(note: Any) -> bool:
    """Whether a row's metadata contains attachments: then its message exists even without a text."""
    return bool(_attachments(note))


def attachments(message: Message) -> list[Attachment]:
    """The files of a user's message; none for a reply."""
    return _attachments(message.meta.get("original")) if message.role == "user" else []


def kept_files(message: Message) -> dict[str, Any]:
    """The part of a user's message's metadata that another version of it keeps: its files."""
    note = message.meta.get("original")
    return {"original": {"attachments": note["attachments"]}} if attachments(message) and note else {}


def full_text(message: Message) -> str:
    """The message as the model reads it: with the contents of its files, or with its tool calls in their saved form."""
    if message.role == "user":
        files = [_file_text(each) for each in attachments(message) if each.text is not None]
        return "\n\n".join([message.text.strip(), "ATTACHMENTS:", *files]).strip() if files else message.text
    note = message.meta.get("original")
    steps = note.get("tool_sequence") if isinstance(note, Mapping) else None
    called = _saved_steps(steps if isinstance(steps, list) else ())
    if not called:
        return message.text
    begun = message.text[: split_reply(message.text).length]
    answer = message.text[len(begun) :].lstrip("\n")
    return "\n\n".join(part for part in (begun, called, answer) if part)


def unseen_pictures(messages: Iterable[Message]) -> int:
    """How many attached pictures the model does not get."""
    return sum(each.text is None for message in messages for each in attachments(message))


def _attachments(note: Any) -> list[Attachment]:
    given = note.get("attachments") if isinstance(note, Mapping) else None
    found = []
    for each in given if isinstance(given, list) else ():
        if not isinstance(each, Mapping):
            continue
        content, url = each.get("content"), each.get("url")
        text = content if isinstance(content, str) else None
        if text is None and not ("image_data" in each or str(each.get("type")).startswith("image")):
            continue
        name = str(each.get("name") or "file")
        found.append(Attachment(name, text, url if isinstance(url, str) else ""))
    return found


def _file_text(file: Attachment) -> str:
    url = [f"URL: {file.url}"] if file.url else []
    return "\n".join([f"Name: {file.name}", *url, "Contents:", "", "=====", file.text or "", "====="])


def _saved_steps(steps: Iterable[Any]) -> str:
    """The calls and results of a tool sequence in the saved form of replies, with the texts between them."""
    parts: list[str] = []
    names: dict[str, str] = {}
    for step in steps:
        if not isinstance(step, Mapping):
            continue
        content = step.get("content")
        text = content if isinstance(content, str) else ""
        calls = step.get("tool_calls")
        if isinstance(calls, list):
            parts += [text.strip()] if text.strip() else []
            for call in calls:
                name, arguments, id = _call(call)
                names[id] = name
                parts += [saved_calls.format_call(name, arguments, id)] if name else []
        elif step.get("role") == "tool" or "tool_call_id" in step:
            id = str(step.get("tool_call_id") or "")
            parts.append(saved_calls.format_result(str(step.get("name") or names.get(id, "tool")), text, id))
        elif text.strip():
            parts.append(text.strip())
    return "\n\n".join(parts)


def _call(call: Any) -> tuple[str, Any, str]:
    """The name, arguments and id of a call as OpenAI writes it; an empty name if it is none."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return "", {}, ""
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError):  # else a template gets the text as it is
            arguments = safe_json.loads(arguments or "{}")
    return function["name"], {} if arguments is None else arguments, str(call.get("id") or "")
