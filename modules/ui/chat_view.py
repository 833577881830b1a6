"""A conversation as the page shows it: values for the components, made from what the services say. No gradio.

The last exchange, which is the one that grows, stands in a component of its own (`tail`) below all earlier ones
(`history`): what an update costs then depends on neither the length of the conversation nor its file.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

from modules.chat.conversation import Conversation, Message
from modules.chat.file_form import title_of
from modules.families.kept import Kept
from modules.families.kept import split as split_reply
from modules.families.kept_calls import Said, said_in
from modules.ui.markdown_text import shown as as_written
from modules.ui.picker import Entry, entries
from modules.ui.words import day, escape, parts, plural

Bubble = dict[str, Any]

#: Code in Markdown: fenced, or in a line.
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)

#: How a reply ended, where that is worth a word.
_ENDED = {"length": "cut at the length limit", "cancelled": "stopped"}


class ChatInfo(Protocol):
    """What the list of chats needs to know of one."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def updated(self) -> float: ...
    @property
    def problem(self) -> str | None: ...
    @property
    def pinned(self) -> bool: ...


class FoundChat(Protocol):
    """What a list of finds needs to know of one."""

    @property
    def info(self) -> ChatInfo: ...
    @property
    def excerpt(self) -> str: ...


@dataclass(frozen=True)
class Place:
    """Which conversation a browser tab shows, and at which revision. An empty id is a chat that has no file yet.

    `writing`: it is shown with a reply that is being written, and is to be shown again when that has ended.
    """

    id: str = ""
    revision: int = 0
    writing: bool = False


@dataclass(frozen=True)
class View:
    """One conversation, ready to be shown. `can_*` say which buttons have something to act on."""

    place: Place
    title: str
    history: list[Bubble]
    tail: list[Bubble]
    meta: str
    can_regenerate: bool
    can_continue: bool
    can_remove: bool


def bubble(role: str, text: str, *, markup: bool = False) -> Bubble:
    """A message for gr.Chatbot. As a part of its own, so that its spaces and newlines are kept as they are.

    `markup`: the text is HTML beside Markdown; else each of its characters is shown.
    """
    return {"role": role, "content": [{"type": "text", "text": text if markup else as_written(text)}]}


def bubbles_of(
    role: str, text: str, visible: str = "", facts: Mapping[str, Any] | None = None, *, growing: bool = True
) -> list[Bubble]:
    """A message for gr.Chatbot; what the model thought, which tools it called and what they gave are
    bubbles of their own, that fold.

    `visible` is HTML that is shown in the text's place: an extension made it. `facts`: `tokens` and `seconds` of the
    thought. `growing`: it is still being written.
    """
    kept = split_reply(text) if role == "assistant" else Kept("", text)
    begun = text[: kept.length]
    answer = _code_unescaped(visible.removeprefix(html.escape(begun))) if visible else text[len(begun) :]
    said = [bubble(role, answer.lstrip() if kept.length else answer, markup=bool(visible))]
    found = said_in(kept.answer) if role == "assistant" and not visible else []
    if any(each.kind != "text" for each in found):
        said = [_part(each) for each in found]
    if not kept.thought:
        return said
    done = kept.done or not growing
    thought = bubble(role, kept.thought)
    title = parts("Thought" if done else "Thinking", *_thought_facts(facts or {}))
    thought["metadata"] = {"title": title, "status": "done" if done else "pending"}
    return [thought, *said] if kept.done else [thought]


def _part(part: Said) -> Bubble:
    """A part of a reply; a call of a tool, or what it gave, folds."""
    if part.value is None:
        return bubble("assistant", part.text)
    content = part.value["arguments" if part.kind == "call" else "content"]
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    shown = bubble("assistant", f"{fence}{'json' if not isinstance(content, str) else ''}\n{text}\n{fence}")
    name = re.sub(r"[^\w.\-]", "", part.name)[:80]
    shown["metadata"] = {"title": f"Called {name}" if part.kind == "call" else f"Result of {name}", "status": "done"}
    return shown


def _of(message: Message) -> list[Bubble]:
    facts, visible = message.meta.get("thought"), str(message.meta.get("visible") or "")
    growing = bool(message.meta.get("unfinished"))
    known = facts if isinstance(facts, Mapping) else None
    return bubbles_of(message.role, message.text, visible, known, growing=growing)


def _thought_facts(facts: Mapping[str, Any]) -> list[str]:
    """How long a thought took, and how long it is."""
    seconds, tokens = _number(facts.get("seconds")), _whole(facts.get("tokens"))
    return [f"{seconds:,.0f} s" if seconds >= 1 else "", plural(tokens, "token") if tokens else ""]


def _code_unescaped(visible: str) -> str:
    """Code stands in Markdown as it is: HTML's escapes would be shown."""
    return _CODE.sub(lambda match: html.unescape(match[0]), visible)


def owners(messages: Iterable[Message]) -> list[Message]:
    """For each bubble of these messages the message that it belongs to."""
    return [message for message in messages for _ in _of(message)]


def split(path: list[Message]) -> tuple[list[Message], list[Message]]:
    """Earlier messages, and the last exchange: what the user said last and all that answers it."""
    start = len(path)
    while start > 0:
        start -= 1
        if path[start].role == "user":
            break
    return path[:start], path[start:]


def bubbles(messages: Iterable[Message]) -> list[Bubble]:
    """Messages for gr.Chatbot."""
    return [each for message in messages for each in _of(message)]


def view(conversation: Conversation) -> View:
    """What to show of a conversation."""
    path = conversation.path()
    earlier, last = split(path)
    replied = bool(path) and path[-1].role == "assistant" and not path[-1].is_greeting
    return View(
        place=Place(conversation.id, conversation.revision),
        title=title_of(conversation),
        history=bubbles(earlier),
        tail=bubbles(last),
        meta=facts_line(path[-1].meta) if replied else "",
        can_regenerate=bool(last) and last[0].role == "user",
        can_continue=replied and len(path) > 1,
        can_remove=bool(path) and not path[-1].is_greeting,
    )


def facts_line(meta: Mapping[str, Any]) -> str:
    """The quiet line under a reply: "112 tokens · 38 per second · 1,812 of 2,040 prompt tokens reused"."""
    new, prompt, reused = (_whole(meta.get(key)) for key in ("new_tokens", "prompt_tokens", "reused_tokens"))
    seconds = _number(meta.get("decode_seconds"))
    line = parts(
        plural(new, "token") if new else "",
        f"{(new - 1) / seconds:,.0f} per second" if new > 1 and seconds else "",
        f"{reused:,} of {prompt:,} prompt tokens reused" if prompt else "",
        _ENDED.get(str(meta.get("finish")), ""),
    )
    notes = meta.get("notes")
    told = [meta.get("error"), *(notes if isinstance(notes, list) else ())]
    warnings = "".join(f"<p class='warning'>{escape(each)}</p>" for each in told if each)
    return f"<p title='{escape(details(meta))}'>{escape(line)}</p>{warnings}" if line or warnings else ""


def details(meta: Mapping[str, Any]) -> str:
    """What the line under a reply tells to whoever points at it."""
    told = []
    if meta.get("reuse_reason"):
        told.append(f"Reused: {meta['reuse_reason']}")
    if "prompt_seconds" in meta:
        told.append(f"Prompt read in {_number(meta['prompt_seconds']):.2f} s")
    if _number(meta.get("queued_seconds")) >= 0.1:
        told.append(f"Waited {_number(meta['queued_seconds']):.1f} s in the queue")
    asked = meta.get("asked")
    dropped = _whole(asked.get("dropped")) if isinstance(asked, Mapping) else 0
    if dropped:
        told.append(f"{plural(dropped, 'old message')} left out: the context was full")
    if _whole(meta.get("seed", -1)) >= 0:
        told.append(f"Seed {meta['seed']}")
    return "\n".join(told)


def chat_list(infos: Iterable[ChatInfo], current: str, today: date | None = None) -> str:
    """The chats by day, newest first."""
    now = today or date.today()
    items = [
        Entry(
            info.id,
            info.title or "Untitled",
            detail=info.problem or "",
            group="Pinned" if info.pinned else day(datetime.fromtimestamp(info.updated), now),
            disabled=info.problem is not None,
        )
        for info in infos
    ]
    return entries("Chats by day", items, current, "Your conversations will be listed here, newest first.")


def found_list(found: Iterable[FoundChat], current: str) -> str:
    """What a search found, with the words around it."""
    items = [Entry(each.info.id, each.info.title or "Untitled", detail=each.excerpt) for each in found]
    return entries("Chats in which this was said", items[:200], current, "No chat holds all these words.")


def _whole(value: Any) -> int:
    """A number out of a file that others may have written."""
    return value if isinstance(value, int) else 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def who_html(called: str, picture: Path | None) -> str:
    """Who is talked with, with their picture if there is one."""
    face = "<span class='face' aria-hidden='true'></span>" if picture else ""
    return f"<div class='who'>{face}<div><b>{escape(called)}</b><small>Chats with this character</small></div></div>"


def bubbles_before(conversation: Conversation, text: str) -> list[Bubble]:
    """What stands before the reply in the last exchange: the message that is being answered."""
    if text:
        return [bubble("user", text)]
    _, last = split(conversation.path())
    return bubbles(last[:1] if last and last[0].role == "user" else [])
