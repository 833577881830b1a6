"""Chats as training data: rows with messages (OpenAI's form) or conversations (ShareGPT's), of many turns.

A row becomes text with the model's own template, and only the assistant's text counts for the loss. The start of each
of its turns is found by rendering the chat up to it with the beginning of a reply or, if the completed turn begins
differently, by rendering it with a mark in place of its text. Some templates render an earlier turn differently from
the last (they drop its reasoning); then each turn becomes a separate text with everything before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loaders import safe_json
from modules.families.reply_format import ReplyFormat
from modules.families.saved_reply import thought_keys
from modules.families.table import family_of
from modules.training.data.formats import RowUnfit

#: The speakers in ShareGPT's and others' words.
_ROLES: Mapping[str, str] = {
    "system": "system", "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "tool": "tool",
    "function": "tool", "observation": "tool", "developer": "system", "function_call": "assistant",
}  # fmt: skip

#: Fields of a message that templates may use besides its role and content.
_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking", "weight")

#: Replaces a reply's text to find its position: occurs in no chat, and no template changes it.
_MARK = "\uf8ffREPLY\uf8ff"

Message = dict[str, Any]
#: Renders messages, optionally with the beginning of a reply, and the model's tools (a list, or None).
Write = Callable[[Sequence[Message], bool, Any], str]


@dataclass(frozen=True)
class MarkedText:
    """A text, and which of its characters count for the loss: (begin, end), in order."""

    text: str
    spans: tuple[tuple[int, int], ...]


def is_chat(row: Mapping[str, Any]) -> bool:
    """Whether a row is a chat."""
    return any(isinstance(row.get(key), list) for key in ("messages", "conversations", "conversation"))


def read_messages(row: Mapping[str, Any]) -> list[Message]:
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
            raise RowUnfit(
                f"has a message {number} with the unknown role {said or 'none'} (known: {', '.join(sorted(_ROLES))})"
            )
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
        raise RowUnfit("has no assistant message to train on")
    if not any(map(_is_learned, found)):
        raise RowUnfit("has the weight 0 for every assistant message, so none is trained on")
    return found


def _is_learned(message: Message) -> bool:
    """Whether a message counts for the loss: the assistant's, unless its weight (OpenAI's form) is 0."""
    return message["role"] == "assistant" and message.get("weight") != 0


def _called(said: str, turn: Mapping[str, Any], content: Any, number: int) -> list[Message]:
    """Calls in the form of older rows: a turn of `function_call` with JSON, or a message's field. Raises: RowUnfit."""
    given = content if said == "function_call" else turn.get("function_call")
    if not given and isinstance(turn.get("tool_calls"), list):
        return [_with_values(each, number) for each in turn["tool_calls"]]
    if not given:
        return []
    try:
        value = safe_json.loads(given) if isinstance(given, str) else given
    except ValueError:
        value = None
    calls = value if isinstance(value, list) else [value]
    if not all(isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in calls):
        raise RowUnfit(f"has a message {number} with a function call that is not JSON with a name and arguments")
    made = []
    for place, each in enumerate(calls):
        arguments = each.get("arguments", {})
        with suppress(ValueError):  # invalid JSON stays as it is in the row
            arguments = safe_json.loads(arguments) if isinstance(arguments, str) else arguments
        function = {"name": each["name"], "arguments": arguments}
        made.append({"id": f"call_{number}_{place}", "type": "function", "function": function})
    return made


def _with_values(call: Any, number: int) -> Message:
    """A call with its arguments as values, as templates need them; rows in OpenAI's form have them as JSON text."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowUnfit(f"has a message {number} with a tool call without a function name")
    arguments = function.get("arguments") or {}
    with suppress(ValueError):  # invalid JSON stays as it is in the row
        arguments = safe_json.loads(arguments) if isinstance(arguments, str) else arguments
    made = {"name": function["name"], "arguments": arguments}
    return {"id": str(call.get("id") or ""), "type": "function", "function": made}


def to_training_message(message: Message, template: str) -> Message:
    """A message as the template needs it: its reasoning, in whatever marks the row has, under the template's key.

    If the template does not use reasoning, it stays in the text and is learned with it.
    """
    if message["role"] != "assistant":
        return message
    keys = thought_keys(template)
    given = next((message[key] for key in _THOUGHTS if isinstance(message.get(key), str)), "")
    rest = {key: value for key, value in message.items() if key not in (*_THOUGHTS, "weight")}
    if not given:
        parser = ReplyFormat(family_of(template)).parser()
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


def read_tools(row: Mapping[str, Any]) -> Any:
    """The tools of a row, a list, also if they are JSON text; None if there are none. Raises: RowUnfit."""
    given = row.get("tools")
    if isinstance(given, str) and given.strip():
        try:
            given = safe_json.loads(given)
        except ValueError:
            raise RowUnfit("has tools that are not valid JSON") from None
    tools = given if isinstance(given, list) else [given] if given else []
    made = [each if not isinstance(each, Mapping) or "function" in each else _tool(each) for each in tools]
    for each in made:
        function = each.get("function") if isinstance(each, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RowUnfit("has a tool without a name")
    return made or None


def _tool(function: Mapping[str, Any]) -> Message:
    """A tool in OpenAI's form, for a row that contains only its function."""
    return {"type": "function", "function": function}


def mark_chat(said: Sequence[Message], write: Write, tools: Any = None) -> list[MarkedText]:
    """The text of a chat with the assistant's turns marked; several texts if the template renders earlier turns
    differently.

    Raises: RowUnfit, TemplateFailed.
    """
    alone = [_alone(said[: place + 1], write, tools) for place, each in enumerate(said) if _is_learned(each)]
    whole = write(said, False, tools)
    if all(whole.startswith(each.text) for each in alone):
        return [MarkedText(whole, tuple(span for each in alone for span in each.spans))]
    return alone


def _alone(said: Sequence[Message], write: Write, tools: Any) -> MarkedText:
    """A chat up to a reply; only the reply is marked."""
    text = write(said, False, tools)
    if len(said) > 1 and text.startswith(before := write(said[:-1], True, tools)):
        return MarkedText(text, ((len(before), len(text)),))
    # the beginning of a reply may contain a switch that a completed reply lacks, and a first message has nothing before
    # it
    stand_in = write([*said[:-1], {"role": said[-1]["role"], "content": _MARK}], False, tools)
    begin = stand_in.find(_MARK)
    if begin < 0 or text[:begin] != stand_in[:begin]:
        raise RowUnfit("cannot be used with the model's template, because its replies cannot be located in the text")
    return MarkedText(text, ((begin, len(text)),))
