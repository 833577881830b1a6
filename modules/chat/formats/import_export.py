"""Imports and exports conversations: the original's JSON and SillyTavern's JSONL. Text in, text out.

SillyTavern's format: a first line with the names, then one line per message: `name`, `is_user`, `mes`, and `swipes`
with `swipe_id` if a reply has versions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from errors import InvalidInput
from loaders import safe_json
from modules.chat.conversation import Conversation, Message, Role
from modules.chat.formats.conversation_file import InvalidConversation, parse_conversation
from modules.chat.formats.times import parse_send_date
from modules.families import saved_calls

#: The most messages of an imported chat, all versions counted; real chats have far fewer.
MOST = 100_000
#: What the chat itself keeps, in SillyTavern's metadata: that program leaves unknown keys as they are.
_KEPT = ("own_settings", "banned_strings")
_WHAT = "Choose a .json file of this program or of text-generation-webui, or a .jsonl file of SillyTavern."


def import_chat(id: str, text: str, title: str = "", notes: list[str] | None = None) -> Conversation:
    """A conversation from either format; `notes` gets a sentence for what is left out. Raises: InvalidInput."""
    text = text.removeprefix("\ufeff")
    first = text.lstrip().partition("\n")[0]
    try:
        made = _from_lines(id, text, notes) if _is_line(first) else parse_conversation(id, text, time.time())
    except InvalidConversation as error:
        raise InvalidInput(f"This file does not contain a conversation: {error}. {_WHAT}") from None
    if not len(made):
        raise InvalidInput(f"This file does not contain any messages. {_WHAT}")
    if len(made) > MOST:
        raise _too_many()
    made.revision = 0
    made.title = made.title or title[:200]
    return made


def export_jsonl(conversation: Conversation, user: str, character: str) -> str:
    """The shown branch as SillyTavern's JSONL, with all versions of each reply."""
    path = conversation.path()
    began = path[0].created if path else time.time()
    lines: list[dict[str, Any]] = [
        {
            "user_name": user,
            "character_name": character,
            "create_date": _date(began),
            "chat_metadata": {key: conversation.meta[key] for key in _KEPT if key in conversation.meta},
        }
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
        if len(texts) == 1 and (invoked := _invoked(message, character)):
            lines += invoked
            continue
        if len(texts) > 1:
            line["swipes"], line["swipe_id"] = texts, [each.id for each in versions].index(message.id)
        lines.append(line)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _from_lines(id: str, text: str, notes: list[str] | None = None) -> Conversation:
    """The readable part; invalid lines, as at the end of a truncated file, are skipped."""
    made = Conversation(id)
    parent: str | None = None
    broken: list[int] = []
    said: list[dict[str, Any]] = []
    hidden = 0
    named = ""
    at: float | None = None
    for number, raw in enumerate(text.split("\n"), 1):  # splitlines would also split at U+2028 and U+0085 inside texts
        if not raw.strip():
            continue
        try:
            line = safe_json.loads(raw)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            broken.append(number)
            continue
        if line.get("mes") is None and not line.get("swipes"):  # the first line, or another program's line
            named = named or _words(line.get("character_name"))
            at = parse_send_date(line.get("create_date")) if at is None else at
            if isinstance(about := line.get("chat_metadata"), dict):
                made.meta |= {key: about[key] for key in _KEPT if key in about}
        elif called := _called(line):
            said.append({**line, "is_user": False, "mes": called, "calls": True})
        elif _true(line.get("is_system")):
            hidden += 1
        else:
            said.append(line)
    said = _with_calls(said)
    names = [_words(line.get("name")) for line in said if not _true(line.get("is_user"))]
    character = named if named in names else next(iter(names), "")
    for line in said:
        found = parse_send_date(line.get("send_date"))
        at = at if found is None else found  # one without a date has that of the message before
        parent = _add(made, line, parent, character, at).id
    if broken and not made:
        raise InvalidConversation(f"line {broken[0]} is not a message, and neither is any other line")
    if notes is not None:
        notes += _left_out(broken, hidden)
    return made


def _called(line: Mapping[str, Any]) -> str:
    """The tool calls in a SillyTavern line with their results, in the form of a saved reply."""
    extra = line.get("extra")
    calls = extra.get("tool_invocations") if isinstance(extra, Mapping) else None
    kept = []
    for each in calls if isinstance(calls, list) else ():
        if isinstance(each, Mapping) and each.get("name"):
            name, id = _words(each["name"]), _words(each.get("id"))
            try:
                arguments = safe_json.loads(_words(each.get("parameters")) or "{}")
            except ValueError:
                arguments = _words(each.get("parameters"))
            kept += [
                saved_calls.format_call(name, arguments, id),
                saved_calls.format_result(name, _words(each.get("result")), id),
            ]
    return "\n".join(kept)


def _with_calls(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts before and after tool calls form one reply."""
    made: list[dict[str, Any]] = []
    for line in said:
        last = made[-1] if made else None
        calls = line.get("calls")
        if last and not _true(last.get("is_user")) and not _true(line.get("is_user")) and (calls or last.get("calls")):
            before = _words(last.get("mes"))
            name = last.get("name") if calls else line.get("name")
            swipes = [f"{before}\n\n{_words(each)}" for each in line.get("swipes") or ()]
            made[-1] = {**(last if calls else line), "name": name, "calls": True,
                        "mes": f"{before}\n\n{_words(line.get('mes'))}", "swipes": swipes}  # fmt: skip
        else:
            made.append({**line, "name": ""} if calls else line)
    return made


def _invoked(message: Message, name: str) -> list[dict[str, Any]]:
    """A reply with tool calls as SillyTavern lines; none if it has no calls."""
    parts = saved_calls.parse_saved_parts(message.text)
    if message.role == "user" or all(each.kind == "text" for each in parts):
        return []
    lines: list[dict[str, Any]] = []
    results = [each for each in parts if each.kind == "result"]
    for each in parts:
        value = each.value or {}
        if each.kind == "text":
            lines.append({"name": name, "is_user": False, "is_system": False, "mes": each.text, "extra": {}})
        elif each.kind == "call":
            id = value.get("id")
            given = next((one for one in results if (one.value or {}).get("id") == id and one.name == each.name), None)
            if given:
                results.remove(given)
            arguments = value["arguments"]
            invoked = {
                "id": id or "",
                "displayName": each.name,
                "name": each.name,
                "parameters": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
                "result": str((given.value or {}).get("content", "")) if given else "",
            }
            if not lines or not lines[-1]["is_system"]:
                extra: dict[str, Any] = {"isSmallSys": True, "tool_invocations": []}
                lines.append({"name": "System", "is_user": False, "is_system": True, "mes": "", "extra": extra})
            lines[-1]["extra"]["tool_invocations"].append(invoked)
            lines[-1]["mes"] = "Tool calls: " + ", ".join(one["name"] for one in lines[-1]["extra"]["tool_invocations"])
    return [{**line, "send_date": _date(message.created)} for line in lines]


def _left_out(broken: list[int], hidden: int) -> list[str]:
    said = []
    if broken:
        lines = ", ".join(f"{number:,}" for number in broken[:5])
        more = f" and {len(broken) - 5:,} more" if len(broken) > 5 else ""
        what = "is not a complete message and was" if len(broken) == 1 else "are not complete messages and were"
        said.append(f"Line{'s' * (len(broken) > 1)} {lines}{more} of the file {what} skipped.")
    if hidden:
        what = "hidden message was" if hidden == 1 else "hidden messages were"
        said.append(f"{hidden:,} {what} skipped: SillyTavern does not send them to the model either.")
    return said


def _true(value: Any) -> bool:
    """Whether a field is true, also if a program wrote it as text."""
    return value.strip().casefold() in ("true", "1", "yes") if isinstance(value, str) else bool(value)


def _add(made: Conversation, line: Mapping[str, Any], parent: str | None, character: str, at: float | None) -> Message:
    """Add a message of this time with its versions and show the one that was shown. Speakers other than the character
    are named in the text.
    """
    user = _true(line.get("is_user"))
    swipes = line.get("swipes")
    texts = [_words(each) for each in swipes] if isinstance(swipes, list) and swipes else [_words(line.get("mes"))]
    which = line.get("swipe_id")
    shown = which if isinstance(which, int) and 0 <= which < len(texts) else 0
    if line.get("mes") is not None:
        texts[shown] = _words(line["mes"])
    name = _words(line.get("name"))
    if not user and name and name != character:  # another member of a group
        texts = [each if each.startswith(f"{name}:") else f"{name}: {each}" for each in texts]
    if len(made) + len(texts) > MOST:
        raise _too_many()
    role: Role = "user" if user else "assistant"
    added = [
        made.add(role, text, parent, created=when)
        for text, when in zip(texts, _times(line, at, len(texts)), strict=True)
    ]
    if parent is None and not user:
        added = [made.set_text(each.id, each.text, greeting=True) for each in added]
    made.select(added[shown].id)
    return added[shown]


def _times(line: Mapping[str, Any], at: float | None, count: int) -> list[float | None]:
    """The times of a message's versions; `at` for those that have none."""
    about = line.get("swipe_info")
    known = (
        [each.get("send_date") if isinstance(each, Mapping) else None for each in about]
        if (count > 1 and isinstance(about, list))
        else []
    )
    found = [parse_send_date(each) for each in known[:count]]
    return [at if each is None else each for each in (*found, *[None] * (count - len(found)))]


def _too_many() -> InvalidInput:
    return InvalidInput(f"This chat has more than {MOST:,} messages. Split the file and import the parts.")


def _words(value: Any) -> str:
    return "" if value is None else str(value)


def _is_line(first: str) -> bool:
    """Whether this is a line of SillyTavern's: an object that is not the original's whole file on one line."""
    try:
        value = safe_json.loads(first)
    except ValueError:
        return False
    return isinstance(value, dict) and not {"internal", "data"} & value.keys()


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d @%Hh %Mm %Ss")
