"""Adapts a conversation to what a template supports, with as few changes as possible.

Templates differ in what they accept and in what they silently drop: a system message in the middle, two calls in one
message, arguments as text, tool results, two messages of one side in a row. A `MessageForm` describes the changes;
`message_forms` lists those that matter for a conversation, the most faithful first; `make_probe` is the same
conversation with other words, to test whether all of them appear in the result. Pure.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules.families.call_form import TOLD

TemplateMessage = dict[str, Any]  # role and content, as templates need them, and tool calls

_MOST = 160  # forms that are tried for one conversation


@dataclass(frozen=True)
class MessageForm:
    """Changes to a conversation before a template gets it; the first value of each field means no change."""

    empty: str = ""  # "none": empty content becomes None; "left out": such a message is left out
    text_arguments: bool = False
    short_ids: bool = False
    empty_tools: bool = False  # no tools become an empty list
    no_thoughts: bool = False
    joined: bool = False  # consecutive messages of one side are joined
    calls: str = ""  # "split": one call per message; "told": calls and results as text
    system: str = ""  # "next": later ones go into the next message of the user; "user": the first one, too
    tools_told: bool = False  # tools are described in the system message
    full_tools: bool = False  # missing descriptions and parameters of tools are filled in

    @property
    def notes(self) -> tuple[str, ...]:
        """What to report about it; nothing for a mere change of spelling, or for tools described as text."""
        said = {
            "Later system messages were merged into the next user message: the template only supports one at the "
            "start.": self.system == "next",
            "The system message was merged into the user's message: the template has no system role.": self.system
            == "user",
            "Consecutive messages of the same role were merged: the template requires alternating roles.": self.joined,
            "Several tool calls in one message were split into one message each: the template supports one per "
            "message.": self.calls == "split",
            "Tool calls and their results were written as text: the template does not support tools.": self.calls
            == "told",
            "Earlier reasoning was left out: the template does not support it here.": self.no_thoughts,
        }
        return tuple(text for text, true in said.items() if true)

    @property
    def is_idle(self) -> bool:
        """Whether it only changes the spelling of something that is no longer there."""
        return (self.calls == "told" and (self.text_arguments or self.short_ids)) or (
            self.tools_told and self.full_tools
        )

    @property
    def is_plain(self) -> bool:
        """Whether no spelling is changed."""
        spelt = self.empty or self.text_arguments or self.short_ids or self.full_tools
        return not (spelt or (self.empty_tools and not self.tools_told))

    def applied(
        self, lines: Sequence[TemplateMessage], tools: Sequence[Mapping[str, Any]] | None
    ) -> tuple[list[TemplateMessage], Any]:
        """The conversation in this form, and the tools that the template gets."""
        result = [dict(line) for line in lines]
        if self.no_thoughts:
            result = [{key: value for key, value in line.items() if key not in THOUGHTS} for line in result]
        if self.empty == "left out":
            result = [
                line for line in result if line["content"] or line.get("tool_calls") or line["role"] != "assistant"
            ]
        if self.calls == "told":
            result = _told(result)
        elif self.calls == "split":
            result = _split(result)
        if self.tools_told and tools:
            result = _described(result, tools)
        if self.text_arguments:
            result = [_with_calls(line, _as_text) for line in result]
        if self.short_ids:
            result = _short(result)
        if self.system:
            result = _moved(result, first=self.system == "user")
        if self.joined:
            result = _alternating(result)
        if self.empty == "none":
            result = [{**line, "content": line["content"] or None} for line in result]
        given = None if self.tools_told else (list(tools) if tools else None)
        if self.full_tools and given:
            given = [{**each, "function": _full(each["function"])} for each in given]
        return result, ([] if self.empty_tools and given is None else given)


#: The keys for reasoning in a message.
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
#: How much each change differs from the original.
_COST = {
    "none": 1, "left out": 2, "text_arguments": 1, "short_ids": 1, "empty_tools": 1, "full_tools": 1, "joined": 4,
    "split": 5, "next": 6, "no_thoughts": 7, "user": 8, "tools_told": 12, "told": 20,
}  # fmt: skip


def message_forms(lines: Sequence[TemplateMessage], tools: Any) -> list[MessageForm]:
    """The forms that make a difference here, the most faithful first."""
    called = [line for line in lines if line.get("tool_calls")]
    results = any(line["role"] == "tool" for line in lines)
    systems = [place for place, line in enumerate(lines) if line["role"] == "system"]
    choices: dict[str, Sequence[Any]] = {
        "empty": ("", "none", "left out") if any(not line["content"] for line in lines) else ("",),
        "text_arguments": (False, True) if called else (False,),
        "short_ids": (False, True) if called else (False,),
        "empty_tools": (False, True),
        "full_tools": (False, True) if any(_full(each["function"]) != each["function"] for each in tools or ())
        else (False,),
        "no_thoughts": (False, True) if any(key in line for line in lines for key in THOUGHTS) else (False,),
        "joined": (False, True),
        "calls": ("", "split", "told") if any(len(line["tool_calls"]) > 1 for line in called)
        else ("", "told") if called or results else ("",),
        "system": ("", "next", "user") if any(place > 0 for place in systems) else ("", "user") if systems or tools
        else ("",),
        "tools_told": (False, True) if tools else (False,),
    }  # fmt: skip
    made = [MessageForm(**dict(zip(choices, each, strict=True))) for each in itertools.product(*choices.values())]
    made = sorted((form for form in made if not form.is_idle), key=_cost)
    # each change of content at least once with plain spelling, and of the others the most faithful ones
    plain = [form for form in made if form.is_plain]
    others = [form for form in made if not form.is_plain]
    return sorted([*plain, *others[: max(0, _MOST - len(plain))]], key=_cost) + made[-1:]


def _cost(form: MessageForm) -> int:
    names = [name for name in _COST if getattr(form, name, False) is True]
    return sum(_COST[name] for name in (*names, form.calls, form.system, form.empty) if name)


@dataclass(frozen=True)
class TemplateProbe:
    """A conversation of the same shape; a template's result must contain all `words`."""

    lines: list[TemplateMessage]
    tools: list[dict[str, Any]] | None
    words: list[str] = field(default_factory=list)

    def lost(self, text: str) -> int:
        """How many of the words are missing; a dict in Python's notation counts as missing, too."""
        return sum(word not in text for word in self.words) + ("{'zqkey" in text)


def make_probe(lines: Sequence[TemplateMessage], tools: Sequence[Mapping[str, Any]] | None) -> TemplateProbe:
    """The shape of a conversation: every text in it is a different word; repeated exchanges are left out."""
    words: list[str] = []

    def word(kind: str = "word") -> str:
        words.append(f"zq{kind}{len(words)}qz")
        return words[-1]

    names: dict[str, str] = {}

    def named(name: str) -> str:
        if name not in names:
            names[name] = word("tool")
        return names[name]

    made: list[TemplateMessage] = []
    for line in _shortest(lines):
        new = dict(line)
        content = line["content"]
        if isinstance(content, list):
            new["content"] = [{**each, "text": word()} if each.get("type") == "text" else each for each in content]
        elif content and content.strip():
            new["content"] = word()
        new.update({key: "zqthought" for key in THOUGHTS if key in line})
        if line.get("tool_calls"):
            new["tool_calls"] = [
                {
                    **call,
                    "function": {
                        "name": named(call["function"]["name"]),
                        "arguments": {"zqkey": word()} if isinstance(call["function"]["arguments"], dict)
                        else word() if call["function"]["arguments"] else "",
                    },
                }
                for call in line["tool_calls"]
            ]  # fmt: skip
        made.append(new)
    given = []
    for each in tools or ():
        function = {**each["function"], "name": named(each["function"]["name"])}
        parameters = function.get("parameters")
        if function.get("description"):
            function["description"] = word("about")
        elif isinstance(parameters, Mapping) and (properties := parameters.get("properties")):
            # a call of it would also contain the name
            first, *others = properties
            named_anew = {word("argument"): properties[first], **{key: properties[key] for key in others}}
            function["parameters"] = {**parameters, "properties": named_anew}
        given.append({**each, "function": function})
    return TemplateProbe(made, given or None, words)


def message_shape(line: TemplateMessage) -> tuple[Any, ...]:
    """The properties of a message, other than its text, that can matter to a template."""
    calls = line.get("tool_calls") or ()
    objects = tuple(type(call["function"]["arguments"]).__name__ for call in calls)
    return line["role"], bool(line["content"]), line["content"] is None, objects, *(key in line for key in THOUGHTS)


def _shortest(lines: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    kept: list[TemplateMessage] = []
    shapes: list[Any] = []
    for line in lines:
        kept.append(line)
        shapes.append(message_shape(line))
        if len(shapes) >= 6 and shapes[-2:] == shapes[-4:-2] == shapes[-6:-4]:
            del kept[-2:], shapes[-2:]
    return kept


# --- the changes ---


def _full(function: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with the fields that many templates expect."""
    given = {key: value for key, value in function.items() if value is not None}
    made = {"name": function.get("name"), "description": "", "parameters": {}, **given}
    return {**made, "parameters": {"type": "object", "properties": {}, **made["parameters"]}}


def _with_calls(line: TemplateMessage, change: Any) -> TemplateMessage:
    if not line.get("tool_calls"):
        return line
    return {**line, "tool_calls": [{**call, "function": change(call["function"])} for call in line["tool_calls"]]}


def _as_text(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    return {
        **function,
        "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
    }


def _short(lines: list[TemplateMessage]) -> list[TemplateMessage]:
    """Ids of nine letters and digits, as some templates require."""
    known: dict[str, str] = {}

    def short(id: Any) -> str:
        return known.setdefault(str(id), f"{len(known):09d}")

    for line in lines:
        if line.get("tool_calls"):
            line["tool_calls"] = [{**call, "id": short(call.get("id", ""))} for call in line["tool_calls"]]
        if line["role"] == "tool":
            line["tool_call_id"] = short(line.get("tool_call_id", ""))
    return lines


def _split(lines: list[TemplateMessage]) -> list[TemplateMessage]:
    """Each call as a separate message, with its result after it."""
    result: list[TemplateMessage] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        calls = line.get("tool_calls") or ()
        if len(calls) < 2:
            result.append(line)
            continue
        answers = list(itertools.takewhile(lambda each: each["role"] == "tool", lines[at:]))
        at += len(answers)
        for number, call in enumerate(calls):
            result.append({**line, "tool_calls": [call], "content": line["content"] if not number else ""})
            place = next((i for i, each in enumerate(answers) if each.get("tool_call_id") == call.get("id")), 0)
            result += [answers.pop(place)] if answers else []
        result += answers
    return result


def _told(lines: list[TemplateMessage]) -> list[TemplateMessage]:
    """Calls and results as text."""
    result: list[TemplateMessage] = []
    for line in lines:
        calls = line.get("tool_calls")
        if calls:
            texts = [_written(call["function"]) for call in calls]
            plain = {key: value for key, value in line.items() if key != "tool_calls"}
            result.append({**plain, "content": "\n".join([line["content"] or "", *texts]).strip()})
        elif line["role"] == "tool":
            result.append({"role": "user", "content": f"<tool_response>\n{line['content']}\n</tool_response>"})
        else:
            result.append(line)
    return result


def _written(function: Mapping[str, Any]) -> str:
    """A call as text, in the form that every parser reads."""
    return TOLD.write(function["name"], json.dumps(function["arguments"], ensure_ascii=False))


def _described(lines: list[TemplateMessage], tools: Sequence[Mapping[str, Any]]) -> list[TemplateMessage]:
    """The tools in the system message, and how to call one."""
    described = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    words = (
        f"You can call these tools:\n{described}\n\nTo call one, answer with nothing but\n"
        f"{TOLD.write('the tool', '{...}')}"
    )
    if lines and lines[0]["role"] == "system":
        return [{**lines[0], "content": f"{lines[0]['content']}\n\n{words}"}, *lines[1:]]
    return [{"role": "system", "content": words}, *lines]


def _moved(lines: list[TemplateMessage], *, first: bool) -> list[TemplateMessage]:
    """System messages are moved to the beginning of the next user message, or to the end of the last one if the
    assistant comes next; the first one stays, unless it is moved, too.
    """
    result: list[TemplateMessage] = []
    held: list[str] = []

    def put() -> None:
        """Insert what is pending before the assistant speaks."""
        text = "\n\n".join(each for each in held if each)
        held.clear()
        if result and result[-1]["role"] == "user":
            result[-1] = {**result[-1], "content": f"{result[-1]['content']}\n\n{text}"}
        elif text:
            result.append({"role": "user", "content": text})

    for place, line in enumerate(lines):
        if line["role"] == "system" and (first or place):
            held.append(line["content"] or "")
        elif held and line["role"] == "user":
            result.append({**line, "content": "\n\n".join(text for text in (*held, line["content"]) if text)})
            held.clear()
        else:
            if held and line["role"] == "assistant":
                put()
            result.append(line)
    if held:
        put()
    return result


def _alternating(lines: list[TemplateMessage]) -> list[TemplateMessage]:
    """User and assistant alternately, user first: consecutive messages of one side are joined."""
    result: list[TemplateMessage] = []
    for line in lines:
        last = result[-1] if result else None
        if last and last["role"] == line["role"] and line["role"] != "tool" and not (
            last.get("tool_calls") or line.get("tool_calls")
        ):  # fmt: skip
            result[-1] = {**last, "content": "\n\n".join(text for text in (last["content"], line["content"]) if text)}
            continue
        if line["role"] == "assistant" and (not result or result[-1]["role"] == "system"):
            result.append({"role": "user", "content": ""})
        result.append(line)
    return result
