"""The forms in which a conversation may be given to a template, from faithful to forbearing.

Templates differ in what they bear and in what they silently leave out: a system message in the middle, two calls in
one message, arguments as text, results of tools, two messages of one side. A `Form` says what is changed; `forms`
lists those that make sense for a conversation, the most faithful first; `probe` is the same conversation in words of
our own, so that it can be seen whether all of them come out. Pure.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]  # role and content, as templates want them, and calls of tools

_MOST = 160  # forms that are tried for one conversation


@dataclass(frozen=True)
class Form:
    """What is changed of a conversation before a template gets it; the first of each is nothing."""

    empty: str = ""  # "none": an empty content becomes none; "left out": such a message does
    text_arguments: bool = False
    short_ids: bool = False
    empty_tools: bool = False  # no tools become an empty list
    no_thoughts: bool = False
    joined: bool = False  # messages of one side in a row become one
    calls: str = ""  # "split": one call a message; "told": calls and results in words
    system: str = ""  # "next": later ones go into the next message of the user; "user": the first one, too
    tools_told: bool = False  # tools are described in the system message

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said about it; nothing for a mere spelling, nor for tools that are told of."""
        said = {
            "A later system message stands in the user's next one: the template takes only a first one.": self.system
            == "next",
            "The system message stands at the beginning of the user's message: the template takes none.": self.system
            == "user",
            "Messages of one side in a row are one: the template wants the sides in turn.": self.joined,
            "Several calls of tools in one message became one message each: the template takes one.": self.calls
            == "split",
            "Calls of tools and their results are written out as text: the template takes none.": self.calls == "told",
            "What was thought earlier is left out: the template refuses it here.": self.no_thoughts,
        }
        return tuple(text for text, true in said.items() if true)

    @property
    def is_idle(self) -> bool:
        """Whether it changes how something is spelt that is not there any more."""
        return self.calls == "told" and (self.text_arguments or self.short_ids)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is spelt in another way."""
        return not (self.empty or self.text_arguments or self.short_ids or (self.empty_tools and not self.tools_told))

    def applied(self, lines: Sequence[Line], tools: Sequence[Mapping[str, Any]] | None) -> tuple[list[Line], Any]:
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
        return result, ([] if self.empty_tools and given is None else given)


#: By which names a thought stands in a line.
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
#: How far each change is from what was said.
_COST = {
    "none": 1, "left out": 2, "text_arguments": 1, "short_ids": 1, "empty_tools": 1, "joined": 4, "split": 5, "next": 6,
    "no_thoughts": 7, "user": 8, "tools_told": 12, "told": 20,
}  # fmt: skip


def forms(lines: Sequence[Line], tools: Any) -> list[Form]:
    """The forms that make a difference here, the most faithful first."""
    called = [line for line in lines if line.get("tool_calls")]
    results = any(line["role"] == "tool" for line in lines)
    systems = [place for place, line in enumerate(lines) if line["role"] == "system"]
    choices: dict[str, Sequence[Any]] = {
        "empty": ("", "none", "left out") if any(not line["content"] for line in lines) else ("",),
        "text_arguments": (False, True) if called else (False,),
        "short_ids": (False, True) if called else (False,),
        "empty_tools": (False, True),
        "no_thoughts": (False, True) if any(key in line for line in lines for key in THOUGHTS) else (False,),
        "joined": (False, True),
        "calls": ("", "split", "told") if any(len(line["tool_calls"]) > 1 for line in called)
        else ("", "told") if called or results else ("",),
        "system": ("", "next", "user") if any(place > 0 for place in systems) else ("", "user") if systems or tools
        else ("",),
        "tools_told": (False, True) if tools else (False,),
    }  # fmt: skip
    made = [Form(**dict(zip(choices, each, strict=True))) for each in itertools.product(*choices.values())]
    made = sorted((form for form in made if not form.is_idle), key=_cost)
    # each change of the words themselves at least once in its plain spelling, and of the rest the most faithful
    plain = [form for form in made if form.is_plain]
    others = [form for form in made if not form.is_plain]
    return sorted([*plain, *others[: max(0, _MOST - len(plain))]], key=_cost) + made[-1:]


def _cost(form: Form) -> int:
    names = [name for name in _COST if getattr(form, name, False) is True]
    return sum(_COST[name] for name in (*names, form.calls, form.system, form.empty) if name)


@dataclass(frozen=True)
class Probe:
    """A conversation of the same shape; `words` all have to be in what a template makes of it."""

    lines: list[Line]
    tools: list[dict[str, Any]] | None
    words: list[str] = field(default_factory=list)

    def lost(self, text: str) -> int:
        """How many of the words are not in it; a dict that is written as Python does counts as lost, too."""
        return sum(word not in text for word in self.words) + ("{'zqkey" in text)


def probe(lines: Sequence[Line], tools: Sequence[Mapping[str, Any]] | None) -> Probe:
    """The shape of a conversation: every text in it is another word; exchanges that only repeat are left out."""
    words: list[str] = []

    def word(kind: str = "word") -> str:
        words.append(f"zq{kind}{len(words)}qz")
        return words[-1]

    names: dict[str, str] = {}

    def named(name: str) -> str:
        if name not in names:
            names[name] = word("tool")
        return names[name]

    made: list[Line] = []
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
    given = [
        {**each, "function": {**each["function"], "name": named(each["function"]["name"])}} for each in tools or ()
    ]
    return Probe(made, given or None, words)


def shape(line: Line) -> tuple[Any, ...]:
    """What of a line makes a difference to a template, besides its words."""
    calls = line.get("tool_calls") or ()
    objects = tuple(type(call["function"]["arguments"]).__name__ for call in calls)
    return line["role"], bool(line["content"]), line["content"] is None, objects, *(key in line for key in THOUGHTS)


def _shortest(lines: Sequence[Line]) -> list[Line]:
    kept: list[Line] = []
    shapes: list[Any] = []
    for line in lines:
        kept.append(line)
        shapes.append(shape(line))
        if len(shapes) >= 6 and shapes[-2:] == shapes[-4:-2] == shapes[-6:-4]:
            del kept[-2:], shapes[-2:]
    return kept


# --- the changes ---


def _with_calls(line: Line, change: Any) -> Line:
    if not line.get("tool_calls"):
        return line
    return {**line, "tool_calls": [{**call, "function": change(call["function"])} for call in line["tool_calls"]]}


def _as_text(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    return {
        **function,
        "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
    }


def _short(lines: list[Line]) -> list[Line]:
    """Ids of nine letters and digits, as some templates want them."""
    known: dict[str, str] = {}

    def short(id: Any) -> str:
        return known.setdefault(str(id), f"{len(known):09d}")

    for line in lines:
        if line.get("tool_calls"):
            line["tool_calls"] = [{**call, "id": short(call.get("id", ""))} for call in line["tool_calls"]]
        if line["role"] == "tool":
            line["tool_call_id"] = short(line.get("tool_call_id", ""))
    return lines


def _split(lines: list[Line]) -> list[Line]:
    """Each call a message of its own, with its result after it."""
    result: list[Line] = []
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


def _told(lines: list[Line]) -> list[Line]:
    """Calls and results in words."""
    result: list[Line] = []
    for line in lines:
        calls = line.get("tool_calls")
        if calls:
            texts = [f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>" for call in calls]
            plain = {key: value for key, value in line.items() if key != "tool_calls"}
            result.append({**plain, "content": "\n".join([line["content"] or "", *texts]).strip()})
        elif line["role"] == "tool":
            result.append({"role": "user", "content": f"<tool_response>\n{line['content']}\n</tool_response>"})
        else:
            result.append(line)
    return result


def _described(lines: list[Line], tools: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The tools in the system message, and how to call one."""
    described = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    words = (
        f"You can call these tools:\n{described}\n\nTo call one, answer with nothing but\n"
        '<tool_call>\n{"name": "the tool", "arguments": {...}}\n</tool_call>'
    )
    if lines and lines[0]["role"] == "system":
        return [{**lines[0], "content": f"{lines[0]['content']}\n\n{words}"}, *lines[1:]]
    return [{"role": "system", "content": words}, *lines]


def _moved(lines: list[Line], *, first: bool) -> list[Line]:
    """System messages at the beginning of the next thing that the user says, or behind the last one where the
    assistant comes next; the first one stays, or goes, too.
    """
    result: list[Line] = []
    held: list[str] = []

    def put() -> None:
        """What is held, before the assistant speaks."""
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


def _alternating(lines: list[Line]) -> list[Line]:
    """User and assistant in turn, user first: same sides in a row are joined."""
    result: list[Line] = []
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
