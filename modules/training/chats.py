"""Chats as training data: rows with messages (OpenAI's form) or conversations (ShareGPT's), of many turns.

A row becomes text by the model's own template, and only what the assistant says counts. Where one of its turns begins
is found by writing the chat up to it with the beginning of a reply, or, where the turn as it is written afterwards
begins in another way, by putting a mark in the place of its words. Some templates write an earlier turn in another way
than the last (they leave its thoughts out); then each turn becomes a text of its own, with all that came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loaders import plain_json
from modules.families.kept import thought_keys
from modules.families.reading import Reading
from modules.families.table import family_of
from modules.training.formats import RowUnfit

#: Who speaks, in ShareGPT's words and others'.
_ROLES: Mapping[str, str] = {
    "system": "system", "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "tool": "tool",
    "function": "tool", "observation": "tool", "developer": "system", "function_call": "assistant",
}  # fmt: skip

#: Of a message, what templates may ask for besides its role and content.
_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking", "weight")

#: What stands for a reply's words where their place is looked for: in no chat, and left alone by every template.
_MARK = "\uf8ffREPLY\uf8ff"

Message = dict[str, Any]
#: Writes messages, the beginning of a reply where it is told so, and the tools that the model has (a list, or None).
Write = Callable[[Sequence[Message], bool, Any], str]


@dataclass(frozen=True)
class Marked:
    """A text, and which of its characters are learned: (begin, end) in their order."""

    text: str
    spans: tuple[tuple[int, int], ...]


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a row is a chat."""
    return any(isinstance(row.get(key), list) for key in ("messages", "conversations", "conversation"))


def messages(row: Mapping[str, Any]) -> list[Message]:
    """The messages of a row, with `role` and `content`. Raises: RowUnfit."""
    turns = next(row[key] for key in ("messages", "conversations", "conversation") if isinstance(row.get(key), list))
    found: list[Message] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        found.append({"role": "system", "content": row["system"]})
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise RowUnfit(f"has a message {number} that is not an object")
        said = str(turn.get("role") or turn.get("from") or "").lower()
        if said not in _ROLES:
            raise RowUnfit(f"has a message {number} by {said or 'nobody'}; known are {', '.join(sorted(_ROLES))}")
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list):  # parts, of which only text can be learned
            content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
        calls = _called(said, turn, content, number)
        if calls or (content is None and turn.get("tool_calls")):
            content = "" if said == "function_call" or content is None else content
        if not isinstance(content, str):
            raise RowUnfit(f"has a message {number} without content")
        kept = {key: turn[key] for key in _KEPT if key in turn}
        found.append({"role": _ROLES[said], "content": content, **kept, **({"tool_calls": calls} if calls else {})})
    if not any(each["role"] == "assistant" for each in found):
        raise RowUnfit("has no message of the assistant: there is nothing to learn in it")
    if not any(map(_is_learned, found)):
        raise RowUnfit("has the weight 0 at each message of the assistant: there is nothing to learn in it")
    return found


def _is_learned(message: Message) -> bool:
    """Whether a message is to be learned: the assistant's, unless its weight (OpenAI's form) is 0."""
    return message["role"] == "assistant" and message.get("weight") != 0


def _called(said: str, turn: Mapping[str, Any], content: Any, number: int) -> list[Message]:
    """Calls as older rows write them: a turn of `function_call` with JSON, or a message's field. Raises: RowUnfit."""
    given = content if said == "function_call" else turn.get("function_call")
    if not given:
        return []
    try:
        value = plain_json.loads(given) if isinstance(given, str) else given
    except ValueError:
        value = None
    calls = value if isinstance(value, list) else [value]
    if not all(isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in calls):
        raise RowUnfit(f"has a message {number} that calls a function, and is no JSON with its name and arguments")
    made = []
    for place, each in enumerate(calls):
        arguments = each.get("arguments", {})
        with suppress(ValueError):  # what is no JSON stays as the row has it
            arguments = plain_json.loads(arguments) if isinstance(arguments, str) else arguments
        function = {"name": each["name"], "arguments": arguments}
        made.append({"id": f"call_{number}_{place}", "type": "function", "function": function})
    return made


def for_template(message: Message, template: str) -> Message:
    """A message as the template wants it: what was thought, in whatever marks its row has it, by the template's name.

    Where the template asks for no thoughts, they stay in the text, and are learned with it.
    """
    if message["role"] != "assistant":
        return message
    keys = thought_keys(template)
    given = next((message[key] for key in _THOUGHTS if isinstance(message.get(key), str)), "")
    rest = {key: value for key, value in message.items() if key not in (*_THOUGHTS, "weight")}
    if not given:
        parser = Reading(family_of(template)).parser()
        parts = [*parser.push(message["content"]), *parser.finish()]
        thought = "".join(part.text for part in parts if part.kind == "thought")
        if not keys or not thought.strip() or parser.kind != "text":
            return rest
        answer = "".join(part.text for part in parts if part.kind == "text").lstrip("\n")
        return {**rest, "content": answer, **dict.fromkeys(keys, thought.strip("\n"))}
    if keys:
        return {**rest, **dict.fromkeys(keys, given)}
    family = family_of(template)
    marks = family.own_thought
    return {**rest, "content": f"{marks.opening}\n{given}{family.closes(marks)}{rest['content']}"}


_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def tools_of(row: Mapping[str, Any]) -> Any:
    """The tools of a row, a list, also where they are written as JSON; None without. Raises: RowUnfit."""
    given = row.get("tools")
    if isinstance(given, str) and given.strip():
        try:
            given = plain_json.loads(given)
        except ValueError:
            raise RowUnfit("has tools that are not JSON") from None
    return given or None


def marked(said: Sequence[Message], write: Write, tools: Any = None) -> list[Marked]:
    """The text of a chat with the assistant's turns marked; several where the template writes earlier turns anew.

    Raises: RowUnfit, TemplateFailed.
    """
    alone = [_alone(said[: place + 1], write, tools) for place, each in enumerate(said) if _is_learned(each)]
    whole = write(said, False, tools)
    if all(whole.startswith(each.text) for each in alone):
        return [Marked(whole, tuple(span for each in alone for span in each.spans))]
    return alone


def _alone(said: Sequence[Message], write: Write, tools: Any) -> Marked:
    """A chat up to a reply, which alone is marked."""
    text = write(said, False, tools)
    if len(said) > 1 and text.startswith(before := write(said[:-1], True, tools)):
        return Marked(text, ((len(before), len(text)),))
    # the beginning of a reply may hold a switch that a written reply has not, and nothing can be before a first message
    stand_in = write([*said[:-1], {"role": said[-1]["role"], "content": _MARK}], False, tools)
    begin = stand_in.find(_MARK)
    if begin < 0 or text[:begin] != stand_in[:begin]:
        raise RowUnfit("is written by the model's template so that its replies cannot be told apart")
    return Marked(text, ((begin, len(text)),))
