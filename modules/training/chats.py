"""Chats as training data: rows with messages (OpenAI's form) or conversations (ShareGPT's), of many turns.

A row becomes text by the model's own template, and only what the assistant says counts. Where one of its turns lies is
found by writing the chat up to it, and up to its end, with the same template: what was added between is the turn. Some
templates write an earlier turn in another way than the last (they leave its thoughts out); then each turn becomes a
text of its own, with all that came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules.training.formats import RowUnfit

#: Who speaks, in ShareGPT's words and others'.
_ROLES: Mapping[str, str] = {
    "system": "system", "user": "user", "human": "user", "prompter": "user", "assistant": "assistant",
    "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant", "tool": "tool",
    "function": "tool", "observation": "tool", "developer": "system",
}  # fmt: skip

Message = dict[str, Any]
#: Writes messages, and the beginning of a reply where it is told so.
Write = Callable[[Sequence[Message], bool], str]


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
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
        if content is None and turn.get("tool_calls"):
            content = ""
        if not isinstance(content, str):
            raise RowUnfit(f"has a message {number} without content")
        kept = {key: turn[key] for key in ("tool_calls", "name", "reasoning_content") if key in turn}
        found.append({"role": _ROLES[said], "content": content, **kept})
    if not any(each["role"] == "assistant" for each in found):
        raise RowUnfit("has no message of the assistant: there is nothing to learn in it")
    return found


def marked(said: Sequence[Message], write: Write) -> list[Marked]:
    """The text of a chat with the assistant's turns marked; several where the template writes earlier turns anew.

    Raises: RowUnfit, TemplateFailed.
    """
    turns = [place for place, each in enumerate(said) if each["role"] == "assistant"]
    whole = write(said, False)
    spans: list[tuple[int, int]] = []
    for place in turns:
        before, after = write(said[:place], True), write(said[: place + 1], False)
        if not (whole.startswith(after) and after.startswith(before)):
            return [_alone(said[: place + 1], write) for place in turns]
        spans.append((len(before), len(after)))
    return [Marked(whole, tuple(spans))]


def _alone(said: Sequence[Message], write: Write) -> Marked:
    before, after = write(said[:-1], True), write(said, False)
    if not after.startswith(before):
        # the beginning of a reply may hold a switch that a written reply has not: what they share comes before it
        before = write(said[:-1], False)
        if not after.startswith(before):
            raise RowUnfit("is written by the model's template so that its replies cannot be told apart")
    return Marked(after, ((len(before), len(after)),))
