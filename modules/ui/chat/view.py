"""Converts a conversation from the services to values for the page's components.

The last exchange, which grows, has its own component (`tail`) below all earlier ones (`history`): so the cost of an
update depends neither on the length of the conversation nor on its file.
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
from modules.chat.formats.attached import Attachment, attachments, full_text
from modules.chat.formats.conversation_file import NEW_CHAT, conversation_title
from modules.families.saved_calls import SavedPart, parse_saved_parts
from modules.families.saved_reply import SavedReply, split_reply
from modules.ui.parts.formatting import escape, format_day, join_facts
from modules.ui.parts.list_picker import PickerEntry, picker_entries
from modules.ui.parts.markdown_text import to_markdown as as_written
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

Bubble = dict[str, Any]

#: Messages before the last exchange that are in the page at first, and how many more "earlier messages" shows. Each is
#: some twenty elements: with a thousand of them, the browser works at every update of a reply.
SHOWN, MORE = 60, 200

#: Code in Markdown: fenced or inline.
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)

#: How a reply ended, if that is worth showing.
_ENDED = {"length": "chat.ended_length", "cancelled": "chat.ended_stopped"}


class ChatInfo(Protocol):
    """What the list of chats needs to know about one."""

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
    @property
    def folder(self) -> str: ...
    @property
    def warm(self) -> bool: ...


class FoundChat(Protocol):
    """What the search results need to know about a chat."""

    @property
    def info(self) -> ChatInfo: ...
    @property
    def excerpt(self) -> str: ...


@dataclass(frozen=True)
class ChatRef:
    """Which conversation a browser tab shows, at which revision. An empty id is a chat without a file.

    `writing`: it is shown with a reply in progress and must be shown again when that has ended. `skipped`: how many of
    its first messages are not shown, `earlier`: at most how many before the last exchange are. `tokens`: of the last
    prompt and its reply.
    """

    id: str = ""
    revision: int = 0
    writing: bool = False
    skipped: int = 0
    earlier: int = SHOWN
    tokens: int = 0


@dataclass(frozen=True)
class ChatView:
    """One conversation, ready to be shown. `can_*` say which buttons are enabled."""

    chat: ChatRef
    title: str
    history: list[Bubble]
    tail: list[Bubble]
    meta: str
    can_regenerate: bool
    can_continue: bool
    can_remove: bool


def make_bubble(role: str, text: str, *, markup: bool = False) -> Bubble:
    """A message for gr.Chatbot, as a separate part, so that its spaces and newlines are preserved.

    `markup`: the text may contain HTML in addition to Markdown; otherwise every character is shown.
    """
    return {"role": role, "content": [{"type": "text", "text": text if markup else as_written(text)}]}


def message_bubbles(
    role: str, text: str, visible: str = "", facts: Mapping[str, Any] | None = None, *, growing: bool = True
) -> list[Bubble]:
    """A message for gr.Chatbot; reasoning, tool calls and tool results are separate, collapsible bubbles.

    `visible` is HTML that is shown instead of the text: an extension created it. `facts`: `tokens` and `seconds` of the
    reasoning. `growing`: it is still being written.
    """
    kept = split_reply(text) if role == "assistant" else SavedReply("", text)
    begun = text[: kept.length]
    answer = _code_unescaped(visible.removeprefix(html.escape(begun))) if visible else text[len(begun) :]
    said = [make_bubble(role, answer.lstrip() if kept.length else answer, markup=bool(visible))]
    found = parse_saved_parts(kept.answer) if role == "assistant" and not visible else []
    if any(each.kind != "text" for each in found):
        said = [_part(each) for each in found]
    if not kept.thought:
        return said
    done = kept.done or not growing
    thought = make_bubble(role, kept.thought)
    title = join_facts(tr("chat.thought" if done else "chat.thinking_now"), *_thought_facts(facts or {}))
    thought["metadata"] = {"title": title, "status": "done" if done else "pending"}
    return [thought, *said] if kept.done else [thought]


def _part(part: SavedPart) -> Bubble:
    """A part of a reply; a tool call or its result is collapsible."""
    if part.value is None:
        return make_bubble("assistant", part.text)
    content = part.value["arguments" if part.kind == "call" else "content"]
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2)
    shown = make_bubble("assistant", _fenced(text, "" if isinstance(content, str) else "json"))
    title = tr("chat.called" if part.kind == "call" else "chat.result", name=_plain_name(part.name))
    shown["metadata"] = {"title": title, "status": "done"}
    return shown


def _of(message: Message) -> list[Bubble]:
    facts, visible = message.meta.get("thought"), str(message.meta.get("visible") or "")
    growing = bool(message.meta.get("unfinished"))
    known = facts if isinstance(facts, Mapping) else None
    text = message.text if message.role == "user" else full_text(message)
    said = message_bubbles(message.role, text, visible, known, growing=growing)
    return said + [_attached(each) for each in attachments(message)]


def _attached(file: Attachment) -> Bubble:
    """A file of a message, collapsible."""
    shown = make_bubble("user", _fenced(file.text) if file.text is not None else tr("chat.picture_unseen"))
    shown["metadata"] = {"title": tr("chat.attached", name=_plain_name(file.name)), "status": "done"}
    return shown


def _fenced(text: str, kind: str = "") -> str:
    """A text as a code block, whatever marks it contains."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{kind}\n{text}\n{fence}"


def _plain_name(name: str) -> str:
    """A name from a file or a model, for a title, which may be read as Markdown."""
    return re.sub(r"[^\w.\- ]", "", name)[:80]


def _thought_facts(facts: Mapping[str, Any]) -> list[str]:
    """The duration and length of reasoning."""
    seconds, tokens = _number(facts.get("seconds")), _whole(facts.get("tokens"))
    took = tr("unit.seconds", s=round(seconds)) if seconds >= 1 else ""
    return [took, tr("unit.tokens", n=tokens) if tokens else ""]


def _code_unescaped(visible: str) -> str:
    """Code in Markdown is unescaped, or HTML escapes would be shown."""
    return _CODE.sub(lambda match: html.unescape(match[0]), visible)


def bubble_owners(messages: Iterable[Message]) -> list[Message]:
    """For each bubble of these messages, the message that it belongs to."""
    return [message for message in messages for _ in _of(message)]


def split_exchange(path: list[Message]) -> tuple[list[Message], list[Message]]:
    """Earlier messages, and the last exchange: the user's last message and all its replies."""
    start = len(path)
    while start > 0:
        start -= 1
        if path[start].role == "user":
            break
    return path[:start], path[start:]


def make_bubbles(messages: Iterable[Message]) -> list[Bubble]:
    """All bubbles of messages, for gr.Chatbot."""
    return [each for message in messages for each in _of(message)]


def view_chat(conversation: Conversation, shown: int = SHOWN) -> ChatView:
    """The view of a conversation: its last exchange, and at most `shown` messages before it."""
    path = conversation.path()
    earlier, last = split_exchange(path)
    skipped = max(0, len(earlier) - shown)
    title = conversation_title(conversation)
    replied = bool(path) and path[-1].role == "assistant" and not path[-1].is_greeting
    return ChatView(
        chat=ChatRef(conversation.id, conversation.revision, skipped=skipped, earlier=shown, tokens=_tokens(path)),
        title=tr("chat.new") if title == NEW_CHAT else title,
        history=make_bubbles(earlier[skipped:]),
        tail=make_bubbles(last),
        meta=facts_line(path[-1].meta) if replied else "",
        can_regenerate=bool(last) and last[0].role == "user",
        can_continue=replied and len(path) > 1,
        can_remove=bool(path) and not path[-1].is_greeting,
    )


def _tokens(path: list[Message]) -> int:
    """The tokens of the last prompt and its reply; 0 if there is no record of one."""
    meta = path[-1].meta if path else {}
    return _whole(meta.get("prompt_tokens")) + _whole(meta.get("new_tokens"))


def facts_line(meta: Mapping[str, Any]) -> str:
    """The facts under a reply: "112 tokens · 38 per second · 1,812 of 2,040 prompt tokens reused"."""
    new, prompt, reused = (_whole(meta.get(key)) for key in ("new_tokens", "prompt_tokens", "reused_tokens"))
    seconds, finish = _number(meta.get("decode_seconds")), str(meta.get("finish"))
    line = join_facts(
        tr("unit.tokens", n=new) if new else "",
        tr("chat.per_second", n=(new - 1) / seconds) if new > 1 and seconds else "",
        tr("chat.reused", reused=reused, prompt=prompt) if prompt else "",
        tr("chat.ended_crash" if meta.get("unfinished") else _ENDED[finish])
        if meta.get("unfinished") or finish in _ENDED
        else "",
    )
    notes = meta.get("notes")
    told = [meta.get("error"), *(notes if isinstance(notes, list) else ())]
    warnings = "".join(f"<p class='warning'>{escape(translated(each))}</p>" for each in told if each)
    return f"<p title='{escape(reply_details(meta))}'>{escape(line)}</p>{warnings}" if line or warnings else ""


def reply_details(meta: Mapping[str, Any]) -> str:
    """The tooltip of the line under a reply."""
    told = []
    if meta.get("reuse_reason"):
        told.append(tr("chat.detail_reused", reason=translated(meta["reuse_reason"])))
    if "prompt_seconds" in meta:
        told.append(tr("chat.detail_prompt", n=_number(meta["prompt_seconds"])))
    if _number(meta.get("queued_seconds")) >= 0.1:
        told.append(tr("chat.detail_queued", n=_number(meta["queued_seconds"])))
    if drafted := _whole(meta.get("drafted_tokens")):
        told.append(tr("chat.detail_drafts", accepted=_whole(meta.get("accepted_tokens")), drafted=drafted))
    if _whole(meta.get("replaced")):
        told.append(tr("chat.detail_banned", n=_whole(meta["replaced"]), tokens=_whole(meta.get("taken_back"))))
    asked = meta.get("asked")
    dropped = _whole(asked.get("dropped")) if isinstance(asked, Mapping) else 0
    if dropped:
        told.append(tr("chat.detail_dropped", n=dropped))
    if _whole(meta.get("seed", -1)) >= 0:
        told.append(tr("chat.detail_seed", n=meta["seed"]))
    return "\n".join(told)


def chat_list_html(infos: Iterable[ChatInfo], current: str, today: date | None = None, *, scopes: bool = False) -> str:
    """The pinned chats, the folders, and the other chats by day, newest first. `scopes`: each with its mode or
    character.
    """
    now = today or date.today()
    items = [
        PickerEntry(
            info.id,
            info.title or tr("chat.untitled"),
            mark=tr("chat.warm") if info.warm else "",
            detail=translated(info.problem or "")
            or join_facts(_scope_name(info.id) if scopes else "", info.folder if info.pinned else ""),
            group=_group_name(info, now),
            disabled=info.problem is not None,
            folds=bool(info.folder) and not info.pinned,
            menu=_menu_label(info),
            pinned=info.pinned,
            group_menu=tr("chat.folder_menu", name=info.folder) if info.folder and not info.pinned else "",
        )
        for info in sorted(infos, key=_place)
    ]
    return picker_entries(tr("chat.list_label"), items, current, tr("chat.list_empty"))


def _place(info: ChatInfo) -> tuple[int, str, str]:
    """Where a chat is in the list: pinned, in a folder, neither. Two folders may differ only in case."""
    if info.pinned:
        return 0, "", ""
    return (1, info.folder.casefold(), info.folder) if info.folder else (2, "", "")


def _group_name(info: ChatInfo, today: date) -> str:
    if info.pinned:
        return tr("chat.pinned")
    return info.folder or format_day(datetime.fromtimestamp(info.updated), today)


def _scope_name(id: str) -> str:
    return id.rpartition("/")[0].removeprefix("chat/")


def _menu_label(info: ChatInfo) -> str:
    return "" if info.problem else tr("chat.menu", title=info.title or tr("chat.untitled"))


def search_results_html(found: Iterable[FoundChat], current: str) -> str:
    """Search results with the text around each match."""
    items = [
        PickerEntry(
            each.info.id,
            each.info.title or tr("chat.untitled"),
            detail=each.excerpt,
            menu=_menu_label(each.info),
            pinned=each.info.pinned,
        )
        for each in found
    ]
    return picker_entries(tr("chat.found_label"), items[:200], current, tr("chat.found_none"))


def _whole(value: Any) -> int:
    """An integer from a file that other programs may have written."""
    return value if isinstance(value, int) else 0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def speaker_html(called: str, picture: Path | None) -> str:
    """The name of the chat partner, with the picture if there is one."""
    face = "<span class='face' aria-hidden='true'></span>" if picture else ""
    about = tr("chat.speaker")
    return f"<div class='who'>{face}<div><b>{escape(called)}</b><small>{about}</small></div></div>"


def bubbles_before(conversation: Conversation, text: str) -> list[Bubble]:
    """The bubbles before the reply in the last exchange: the message that is being answered."""
    if text:
        return [make_bubble("user", text)]
    _, last = split_exchange(conversation.path())
    return make_bubbles(last[:1] if last and last[0].role == "user" else [])
