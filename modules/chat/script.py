"""A template at work: messages become text, a turn is left open for the reply, and the turns' separators are found.

Templates differ in what they bear (two messages of the same side in a row, a system message, a reply at the start);
what one refuses is given to it in a form that it takes. This module knows nothing of lengths or of conversations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from errors import TemplateFailed, TemplateTooSlow

Line = dict[str, Any]  # role and content, as templates want them, and calls of tools

_MARK = "\uf8f0{}\uf8f1"  # from the private use area: no template touches it, no text holds it
_BRACKETED = re.compile(r"\s*(<[^<>\s][^<>\n]{0,60}>|\[/?[A-Z_]{2,20}\])")
_HEADER = re.compile(r"(\s*)([^\s:][^\n:]{0,60}:)")


class Renderer(Protocol):
    """`Templates.render`."""

    def __call__(self, template: str, messages: Sequence[Mapping[str, Any]], *, name: str, **values: Any) -> str: ...


@dataclass
class Script:
    """One template with its values, for the building of one prompt."""

    render: Renderer
    template: str
    name: str  # what it is called when it fails
    values: Mapping[str, Any] = field(default_factory=dict)
    _form: int = 0  # the first of _FORMS that this template takes
    _prompts: bool | None = None  # whether it honours add_generation_prompt

    def text(self, lines: Sequence[Line], *, open: bool = False) -> str:
        """The lines as text; `open`: with the beginning of a reply, if the template can. Raises: TemplateFailed."""
        first: TemplateFailed | None = None
        for form in range(self._form, len(_FORMS)):
            messages = _FORMS[form](lines)
            try:
                text = self.render(
                    self.template, messages, name=self.name, **{**self.values, "add_generation_prompt": open}
                )
            except TemplateTooSlow:
                raise
            except TemplateFailed as error:
                first = first or error
                continue
            self._form = form
            return text
        assert first
        raise first

    def opened(self, lines: Sequence[Line], begun: str = "", *, role: str = "assistant") -> str:
        """The lines and then the turn of `role` as far as it has come, so that the model goes on there."""
        if role == "assistant" and self._opens():
            return self.text(lines, open=True) + begun
        mark = _MARK.format("")
        text = self.text([*lines, {"role": role, "content": begun + mark}])
        place = text.rfind(mark)
        if place < 0:  # it shows nothing of an unfinished turn
            return self.text(lines) + begun
        # models write the space before a word together with it
        return text[:place] if begun else text[:place].rstrip(" ")

    def stops(self, ignored: Sequence[str] = ()) -> list[str]:
        """Where a turn ends in this template: how the separators between turns begin. Without the `ignored` ones."""
        marks = [_MARK.format(number) for number in range(4)]
        roles = ("user", "assistant", "user", "assistant")
        try:
            text = self.text([{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)])
        except TemplateFailed:
            return []
        places = [text.find(mark) for mark in marks]
        if -1 in places or sorted(places) != places:
            return []
        between = [text[places[at] + len(marks[at]) : places[at + 1]] for at in (1, 0)]
        found = [stop for separator in between for stop in separators(separator) if stop not in ignored]
        return list(dict.fromkeys(found))

    def _opens(self) -> bool:
        if self._prompts is None:
            line = [{"role": "user", "content": "x"}]
            self._prompts = self.text(line, open=True) != self.text(line)
        return self._prompts


def separators(between: str) -> list[str]:
    """What in the text between two turns shows that a turn is over: marks in brackets, and a header with a colon."""
    found: list[str] = []
    while len(found) < 3 and (match := _BRACKETED.match(between)):
        found.append(match[1])
        between = between[match.end() :]
    header = _HEADER.match(between)
    if header and "\n" in header[1]:
        found.append("\n" + header[2])
    elif header and len(header[2]) > 4:  # shorter ones, without a line of their own, may be just words
        found.append(header[2])
    return found


def _plain(lines: Sequence[Line]) -> list[Line]:
    return list(lines)


def _alternating(lines: Sequence[Line]) -> list[Line]:
    """User and assistant in turn, user first: same sides in a row are joined."""
    result: list[Line] = []
    for line in lines:
        if result and result[-1]["role"] == line["role"]:
            result[-1] = {**line, "content": f"{result[-1]['content']}\n\n{line['content']}"}
            continue
        if line["role"] == "assistant" and (not result or result[-1]["role"] == "system"):
            result.append({"role": "user", "content": ""})
        result.append(line)
    return result


def _without_system(lines: Sequence[Line]) -> list[Line]:
    """The system message as the beginning of the first thing that the user says."""
    result = _alternating(lines)
    if not result or result[0]["role"] != "system":
        return result
    system = result.pop(0)["content"]
    if not result:
        return [{"role": "user", "content": system}]
    content = result[0]["content"]
    return [{"role": "user", "content": f"{system}\n\n{content}" if content else system}, *result[1:]]


#: How lines may be given to a template, from faithful to forbearing.
_FORMS = (_plain, _alternating, _without_system)
