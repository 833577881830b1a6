"""A template at work: messages become text, a turn is left open for the reply, and the turns' separators are found.

Templates differ in what they bear (see `forms`): what one refuses, or leaves out in silence, is given to it in a form
that it takes, and `notes` say so. This module knows nothing of lengths or of conversations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from errors import TemplateFailed, TemplateTooSlow
from modules.chat.forms import Form, Line, forms, probe, shape
from modules.families.table import family_of

_MARK = "\uf8f0{}\uf8f1"  # from the private use area: no template touches it, no text holds it
_BEGUN: Any = object()  # the key of a line that a reply begins with: no message from outside can have it
_BRACKETED = re.compile(r"\s*(<[^<>\s][^<>\n]{0,60}>|\[/?[A-Z_]{2,20}\])")
_LOST = "The template leaves out some of these messages, in whatever form they are given to it."
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
    tools: Sequence[Mapping[str, Any]] | None = None
    literally: Callable[[Any], Any] = lambda value: value  # makes text of control tokens that stand in messages
    notes: tuple[str, ...] = ()  # what is to be said about the form of the last text
    _orders: dict[Any, list[tuple[Form, int]]] = field(default_factory=dict)  # by the shape of a conversation
    _prompts: bool | None = None  # whether it honours add_generation_prompt

    def text(self, lines: Sequence[Line], *, open: bool = False) -> str:
        """The lines as text; `open`: with the beginning of a reply, if the template can. Raises: TemplateFailed.

        In the most faithful form in which the template leaves none of them out.
        """
        lines = [self._protected(line) for line in lines]
        shapes = (open, *map(shape, lines))
        order = self._orders.get(shapes)
        if order is None:
            order = self._orders[shapes] = self._order(lines, open)
        first: TemplateFailed | None = None
        for form, lost in order:
            try:
                text = self._rendered(form, lines, self.literally(self.tools), open)
            except TemplateTooSlow:
                raise
            except TemplateFailed as error:
                first = first or error
                continue
            self.notes = (*form.notes, *([_LOST] if lost else []))
            return text
        raise first or self._refused(lines, open)

    def _protected(self, line: Line) -> Line:
        """A line whose words are words; what is begun of a reply may hold marks."""
        if _BEGUN in line:
            return {key: value for key, value in line.items() if key is not _BEGUN}
        return {key: value if key in ("role", "type") else self.literally(value) for key, value in line.items()}

    def _order(self, lines: Sequence[Line], open: bool) -> list[tuple[Form, int]]:
        """The forms that the template takes, those that lose the least first; found out with other words."""
        shown = probe(lines, self.tools)
        found: list[tuple[Form, int]] = []
        for form in forms(shown.lines, shown.tools):
            try:
                text = self._rendered(form, shown.lines, shown.tools, open)
            except TemplateTooSlow:
                raise
            except TemplateFailed:
                continue
            found.append((form, shown.lost(text)))
            if not found[-1][1]:
                break
        return sorted(found, key=lambda each: each[1])

    def _refused(self, lines: Sequence[Line], open: bool) -> TemplateFailed:
        """Why it takes them in no form: what it says of the most faithful one."""
        try:
            self._rendered(Form(), lines, self.tools, open)
        except TemplateFailed as error:
            return error
        return TemplateFailed(self.name, "it takes these messages in no form")

    def _rendered(self, form: Form, lines: Sequence[Line], tools: Any, open: bool) -> str:
        try:
            messages, given = form.applied(lines, tools)
        except RecursionError:
            raise TemplateFailed(self.name, "the messages are nested too deeply") from None
        values = {**self.values, "tools": given, "add_generation_prompt": open}
        if (
            "functions" in self.template and "functions" not in values
        ):  # firefunction's: the tools as text, and the time
            values["functions"] = json.dumps(given or [], ensure_ascii=False, indent=4)
            values.setdefault("datetime", datetime.now().strftime("%b %d %Y %H:%M"))
        return self.render(self.template, messages, name=self.name, **values)

    def opened(self, lines: Sequence[Line], begun: str = "", *, role: str = "assistant") -> str:
        """The lines and then the turn of `role` as far as it has come, so that the model goes on there."""
        if role == "assistant" and self._opens():
            return self.text(lines, open=True) + begun
        mark = _MARK.format("")
        text = self.text([*lines, {"role": role, "content": begun + mark, _BEGUN: True}])
        place = text.rfind(mark)
        if place < 0:  # it shows nothing of an unfinished turn
            return self.text(lines) + begun
        # models write the space before a word together with it
        return text[:place] if begun else text[:place].rstrip(" ")

    def stops(self, ignored: Sequence[str] = ()) -> list[str]:
        """What ends the assistant's turn: what the template writes between it and the other side's next words, and
        what is known of the family. Never a mark that may stand in a reply. Without the `ignored` ones.
        """
        family = family_of(self.template)
        found = [*separators(self._after_a_reply()), *family.ends, *family.others]
        inside = (*family.marks, *ignored)
        return list(dict.fromkeys(stop for stop in found if not any(stop in mark for mark in inside)))

    def _after_a_reply(self) -> str:
        """What stands between a reply and what the user says next; "" where that cannot be told."""
        marks = [_MARK.format(number) for number in range(4)]
        roles = ("user", "assistant", "user", "assistant")
        try:
            text = self.text([{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)])
        except TemplateFailed:
            return ""
        places = [text.find(mark) for mark in marks]
        if -1 in places or sorted(places) != places:
            return ""
        return text[places[1] + len(marks[1]) : places[2]]

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
