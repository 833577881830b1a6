"""The file format of a conversation: the original's rows for the shown branch, and the tree beside them.

The rows take precedence: if another program has changed them, they become the shown branch, and the parts of the tree
that still fit are kept. `about` comes first, so that listing conversations reads only the first bytes of each file.
Values in, values out: this module opens no file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loaders import safe_json
from modules.chat.conversation import Conversation, Message
from modules.chat.formats.legacy_rows import GREETING, Rows, adopt_messages, read_row_messages, rows_metadata, to_rows
from modules.chat.formats.times import to_seconds
from modules.families.saved_calls import to_typed_parts

_OURS = ("about", "internal", "visible", "metadata", "tree", "data", "data_visible")
_LONGEST_TITLE = 60
#: Characters in the name of a folder.
LONGEST_FOLDER = 60
_HEAD = '{\n"about": '


class InvalidConversation(ValueError):
    """The value is not a valid conversation; the text says why."""


def dump_conversation(conversation: Conversation) -> str:
    """The file's text: JSON with one message per line, so that people can read and compare it."""
    path = conversation.path()
    internal, visible = to_rows(path)
    about = {
        "revision": conversation.revision,
        "title": conversation_title(conversation),
        "named": bool(conversation.title),
        "messages": len(path),
        **(
            {"updated": round(updated, 3)}
            if (updated := max((each.created for each in conversation), default=0))
            else {}
        ),
        **({"pinned": True} if conversation.pinned else {}),
        **({"folder": conversation.folder} if conversation.folder else {}),
        **({"model": conversation.model} if conversation.model else {}),
    }
    blocks = [f"{_HEAD}{_line(about)}"]
    blocks += [f'"internal": {_lines(internal)}', f'"visible": {_lines(visible)}']
    blocks.append(f'"metadata": {_lines(rows_metadata(conversation, path))}')
    blocks += [f"{_line(key)}: {_line(value)}" for key, value in conversation.meta.items() if key not in _OURS]
    chosen = {parent or "": conversation.chosen(parent) for parent in _parents(conversation)}
    blocks.append(
        f'"tree": {{"chosen": {_line(chosen)},\n"messages": {_lines([_node(each) for each in conversation])}}}'
    )
    return ",\n".join(blocks) + "\n}\n"


def parse_conversation(id: str, text: str, created: float) -> Conversation:
    """The conversation in a file's text. `created` is the time for messages that have none. Raises:
    InvalidConversation.
    """
    try:
        value = safe_json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidConversation(f"it is incomplete JSON (line {error.lineno}: {error.msg})") from None
    except ValueError:
        raise InvalidConversation("it is not valid JSON") from None
    if not isinstance(value, dict):
        raise InvalidConversation("it does not contain a conversation")
    internal = _rows(value, "internal", "data")
    visible = _visible_rows(value.get("visible", value.get("data_visible")))
    about = _mapping(value.get("about"))
    revision = about.get("revision")
    conversation = Conversation(
        id,
        revision=revision if isinstance(revision, int) and revision >= 0 else 0,
        title=str(about.get("title") or "") if about.get("named") is True else "",
        meta={key: each for key, each in value.items() if key not in _OURS},
    )
    conversation.pinned = about.get("pinned") is True
    conversation.folder = folder_in(about)
    conversation.model = model if isinstance(model := about.get("model"), str) else ""
    _plant(conversation, _mapping(value.get("tree")), created)
    if to_rows(conversation.path())[0] != internal:  # written by another program
        adopt_messages(conversation, read_row_messages(internal, visible, _mapping(value.get("metadata"))), created)
    return conversation


def conversation_texts(text: str) -> list[str]:
    """All texts of a file's conversation, each once: of the shown branch, then of the others.

    Nothing for a file that is not a conversation.
    """
    try:
        value = safe_json.loads(text)
    except ValueError:
        return []
    if not isinstance(value, dict):
        return []
    rows = value.get("internal") or value.get("data")
    nodes = _mapping(value.get("tree")).get("messages")
    said = [each for row in _lists(rows) for each in _lists(row) if each != GREETING]
    said += [_mapping(node).get("text") for node in _lists(nodes)]
    return list(dict.fromkeys(each for each in said if isinstance(each, str)))


def read_summary(head: str) -> Mapping[str, Any] | None:
    """What the first characters of a file say about it; None if the whole file has to be read."""
    if not head.startswith(_HEAD):
        return None
    try:
        about, _ = safe_json.decode_first(head, len(_HEAD))
    except ValueError:
        return None
    return about if isinstance(about, dict) else None


def folder_in(about: Mapping[str, Any]) -> str:
    """The folder that a file names, as a valid name; "" for none."""
    folder = about.get("folder")
    return " ".join(folder.split())[:LONGEST_FOLDER] if isinstance(folder, str) else ""


#: The title of an empty chat.
NEW_CHAT = "New chat"


def conversation_title(conversation: Conversation) -> str:
    """Its title, else its file's name if a person chose it, else the beginning of the user's first message."""
    if conversation.title:
        return conversation.title
    stem = conversation.id.rpartition("/")[2]
    if not stem[:8].isdigit():
        return stem
    for message in conversation.path():
        words = " ".join(message.text.split())
        if message.role == "user" and words:
            return words if len(words) <= _LONGEST_TITLE else words[: _LONGEST_TITLE - 1].rstrip() + "…"
    return NEW_CHAT


def _plant(conversation: Conversation, tree: Mapping[str, Any], created: float) -> None:
    """Build the tree from its part of the file; invalid entries are skipped."""
    nodes = tree.get("messages")
    for node in nodes if isinstance(nodes, list) else ():
        message = _message(node, created)
        if message and message.id not in conversation and (message.parent is None or message.parent in conversation):
            conversation.insert(message)
    for parent, child in _mapping(tree.get("chosen")).items():
        above = parent or None
        if isinstance(child, str) and child in conversation and conversation.message(child).parent == above:
            conversation.choose(child)


def _message(node: Any, created: float) -> Message | None:
    given = _mapping(node)
    id, parent, role, text = (given.get(key) for key in ("id", "parent", "role", "text"))
    if (
        not isinstance(id, str)
        or not id
        or not isinstance(text, str)
        or not (parent is None or isinstance(parent, str))
    ):
        return None
    if role not in ("user", "assistant"):
        return None
    model = given.get("model")
    return Message(
        id=id,
        parent=parent,
        role="user" if role == "user" else "assistant",
        text=text,
        created=to_seconds(given.get("created"), created),
        model=model if isinstance(model, str) else "",
        meta=dict(_mapping(given.get("meta"))),
    )


def _node(message: Message) -> dict[str, Any]:
    node: dict[str, Any] = {
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "text": message.text,
        "created": round(message.created, 3),
    }
    if message.role == "assistant" and (parts := to_typed_parts(message.text)):
        node["parts"] = parts  # for other programs only: the text counts
    if message.model:
        node["model"] = message.model
    if message.meta:
        node["meta"] = dict(message.meta)
    return node


def _parents(conversation: Conversation) -> Iterator[str | None]:
    yield None
    yield from (message.id for message in conversation if conversation.chosen(message.id) is not None)


def _rows(value: Mapping[str, Any], *names: str) -> Rows:
    name = next((name for name in names if name in value), None)
    if name is None:
        raise InvalidConversation(f"the key {names[0]} is missing")
    rows = value[name]
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) >= 2 for row in rows):
        raise InvalidConversation(f"{name} is not a list of pairs")
    pairs = [["" if half is None else half for half in row[:2]] for row in rows]
    if not all(isinstance(half, str) for pair in pairs for half in pair):
        raise InvalidConversation(f"{name} contains something other than text")
    return pairs


def _visible_rows(value: Any) -> Rows:
    """The rows of what the page shows. What is damaged in them is left out: it can be made from the texts again."""
    pairs = [row if isinstance(row, list) else [] for row in _lists(value)]
    return [[half if isinstance(half, str) else "" for half in [*row, "", ""][:2]] for row in pairs]


def _lists(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(value: list[Any] | dict[str, Any]) -> str:
    """A list or mapping with each of its items on its own line (json's indent is slow and splits too finely)."""
    if isinstance(value, dict):
        inner = ",\n".join(f"{_line(key)}: {_line(each)}" for key, each in value.items())
        return f"{{\n{inner}}}" if inner else "{}"
    inner = ",\n".join(map(_line, value))
    return f"[\n{inner}]" if inner else "[]"
