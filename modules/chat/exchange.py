"""Conversations from and for other programs: the original's JSON, and SillyTavern's JSONL. Text in, text out.

SillyTavern's form: a first line with the names, then one line a message: `name`, `is_user`, `mes`, and `swipes` with
`swipe_id` where a reply has versions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from errors import InvalidInput
from loaders import plain_json
from modules.chat.conversation import Conversation, Message
from modules.chat.file_form import NotAConversation, from_text

#: Messages of a chat that is imported, all versions counted: many times what anyone writes.
MOST = 100_000
_WHAT = "Take a .json file of this program or of text-generation-webui, or a .jsonl file of SillyTavern."


def read_chat(id: str, text: str, title: str = "") -> Conversation:
    """A conversation from either form. Raises: InvalidInput."""
    text = text.removeprefix("\ufeff")
    first = text.lstrip().partition("\n")[0]
    try:
        made = _from_lines(id, text) if _is_line(first) else from_text(id, text, time.time())
    except NotAConversation as error:
        raise InvalidInput(f"This file holds no conversation: {error}. {_WHAT}") from None
    if not len(made):
        raise InvalidInput(f"This file holds no message. {_WHAT}")
    if len(made) > MOST:
        raise _too_many()
    made.revision = 0
    made.title = made.title or title[:200]
    return made


def to_lines(conversation: Conversation, user: str, character: str) -> str:
    """The branch that is shown as SillyTavern's JSONL, with all versions of each reply."""
    path = conversation.path()
    began = path[0].created if path else time.time()
    lines: list[dict[str, Any]] = [
        {"user_name": user, "character_name": character, "create_date": _date(began), "chat_metadata": {}}
    ]
    for message in path:
        line: dict[str, Any] = {
            "name": user if message.role == "user" else character,
            "is_user": message.role == "user",
            "is_system": False,
            "send_date": _date(message.created),
            "mes": message.text,
            "extra": {},
        }
        versions = [conversation.message(each) for each in conversation.versions(message.id)]
        texts = [each.text for each in versions if each.role == message.role]
        if len(texts) > 1:
            line["swipes"], line["swipe_id"] = texts, [each.id for each in versions].index(message.id)
        lines.append(line)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _from_lines(id: str, text: str) -> Conversation:
    made = Conversation(id)
    parent: str | None = None
    for number, raw in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028 and U+0085, inside of texts
        if not raw.strip():
            continue
        try:
            line = plain_json.loads(raw)
        except ValueError:
            raise NotAConversation(f"line {number} is not valid JSON") from None
        if not isinstance(line, dict):
            raise NotAConversation(f"line {number} is not a message")
        if (line.get("mes") is not None or line.get("swipes")) and not line.get("is_system"):
            parent = _add(made, line, parent).id
    return made


def _add(made: Conversation, line: Mapping[str, Any], parent: str | None) -> Message:
    """A message with its versions; the one that was shown is shown."""
    user = bool(line.get("is_user"))
    swipes = line.get("swipes")
    texts = [_words(each) for each in swipes] if isinstance(swipes, list) and swipes else [_words(line.get("mes"))]
    at = line.get("swipe_id")
    shown = at if isinstance(at, int) and 0 <= at < len(texts) else 0
    if line.get("mes") is not None:
        texts[shown] = _words(line["mes"])
    if len(made) + len(texts) > MOST:
        raise _too_many()
    added = [made.add("user" if user else "assistant", text, parent) for text in texts]
    if parent is None and not user:
        added = [made.set_text(each.id, each.text, greeting=True) for each in added]
    made.select(added[shown].id)
    return added[shown]


def _too_many() -> InvalidInput:
    return InvalidInput(f"This chat has more than {MOST:,} messages. Split the file and import its parts.")


def _words(value: Any) -> str:
    return "" if value is None else str(value)


def _is_line(first: str) -> bool:
    """Whether this is a line of SillyTavern's: an object, and not the original's whole file in one line."""
    try:
        value = plain_json.loads(first)
    except ValueError:
        return False
    return isinstance(value, dict) and not {"internal", "data"} & value.keys()


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d @%Hh %Mm %Ss")
