"""Renders messages with a template, leaves the last turn open for the reply, and finds the turns' separators.

Templates differ in what they support (see `message_forms`): what one refuses or silently drops is passed in a form that
it accepts, and `notes` say so. This module knows nothing of lengths or conversations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from errors import TemplateFailed, TemplateTooSlow
from modules.families.table import family_of
from modules.prompts.message_forms import MessageForm, TemplateMessage, make_probe, message_forms, message_shape

_MARK = "\uf8f0{}\uf8f1"  # private-use characters: no template changes them, no text contains them
_BEGUN: Any = object()  # the key of a message that a reply begins with: no message from outside can have it
_BRACKETED = re.compile(r"\s*(<[^<>\s][^<>\n]{0,60}>|\[/?[A-Z_]{2,20}\]|\[\|[^\[\]|\n]{1,40}\|\])")
_LOST = "The template leaves out some of these messages."
_HEADER = re.compile(r"(\s*)([^\s:\uff1a][^\n:\uff1a]{0,60}[:\uff1a])")
_COUNTED = re.compile(r"\s*(\n\[?[^\W\d]{2,20} )\d+\b")  # [Round 2], whose number rises


class RenderTemplate(Protocol):
    """`Templates.render`."""

    def __call__(self, template: str, messages: Sequence[Mapping[str, Any]], *, name: str, **values: Any) -> str: ...


@dataclass
class TemplateRenderer:
    """One template with its values, to build one prompt."""

    render: RenderTemplate
    template: str
    name: str  # its name in error messages
    values: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] | None = None
    literally: Callable[[Any], Any] = lambda value: value  # turns control tokens in messages into plain text
    notes: tuple[str, ...] = ()  # what to report about the form of the last text
    _orders: dict[Any, list[tuple[MessageForm, int]]] = field(default_factory=dict)  # by the shape of a conversation
    _prompts: bool | None = None  # whether it supports add_generation_prompt

    def text(self, lines: Sequence[TemplateMessage], *, open: bool = False) -> str:
        """The messages as text; `open`: with the beginning of a reply, if the template supports it. Raises:
        TemplateFailed.

        Uses the most faithful form in which the template drops none of them.
        """
        lines = [self._protected(line) for line in lines]
        shapes = (open, *map(message_shape, lines))
        order = self._orders.get(shapes)
        if order is None:
            order = self._orders[shapes] = self._order(lines, open)
        first: TemplateFailed | None = None
        refused: set[MessageForm] = set()
        while order:
            for form, lost in order:
                try:
                    text = self._rendered(form, lines, self.literally(self.tools), open)
                except TemplateTooSlow:
                    raise
                except TemplateFailed as error:
                    first = first or error
                    refused.add(form)
                    continue
                self.notes = (*form.notes, *([_LOST] if lost else []))
                return text
            # it refuses these values but accepted others: no other form is left
            order = self._orders[shapes] = self._order(lines, open, refused)
        raise first or self._refused(lines, open)

    def _protected(self, line: TemplateMessage) -> TemplateMessage:
        """A message with its control tokens as plain text; the beginning of a reply may contain marks."""
        if _BEGUN in line:
            return {key: value for key, value in line.items() if key is not _BEGUN}
        return {key: value if key in ("role", "type") else self.literally(value) for key, value in line.items()}

    def _order(
        self, lines: Sequence[TemplateMessage], open: bool, refused: Container[MessageForm] = ()
    ) -> list[tuple[MessageForm, int]]:
        """The forms that the template accepts, those with the least loss first; tested with other words."""
        shown = make_probe(lines, self.tools)
        found: list[tuple[MessageForm, int]] = []
        for form in message_forms(shown.lines, shown.tools):
            if form in refused:
                continue
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

    def _refused(self, lines: Sequence[TemplateMessage], open: bool) -> TemplateFailed:
        """Why it accepts no form: its error for the most faithful one."""
        try:
            self._rendered(MessageForm(), lines, self.tools, open)
        except TemplateFailed as error:
            return error
        return TemplateFailed(self.name, "it does not accept these messages")

    def _rendered(self, form: MessageForm, lines: Sequence[TemplateMessage], tools: Any, open: bool) -> str:
        try:
            messages, given = form.applied(lines, tools)
        except RecursionError:
            raise TemplateFailed(self.name, "the messages are nested too deeply") from None
        values = {**self.values, "tools": given, "add_generation_prompt": open}
        if (
            "functions" in self.template and "functions" not in values
        ):  # of firefunction: the tools as text, and the time
            values["functions"] = json.dumps(given or [], ensure_ascii=False, indent=4)
            values.setdefault("datetime", datetime.now().strftime("%b %d %Y %H:%M"))
        return self.render(self.template, messages, name=self.name, **values)

    def opened(self, lines: Sequence[TemplateMessage], begun: str = "", *, role: str = "assistant") -> str:
        """The messages and then the turn of `role` so far, so that the model continues there."""
        if role == "assistant" and self._opens():
            return self.text(lines, open=True) + begun
        mark = _MARK.format("")
        text = self.text([*lines, {"role": role, "content": begun + mark, _BEGUN: True}])
        place = text.rfind(mark)
        if place < 0:  # it does not show an unfinished turn
            return self.text(lines) + begun
        # models write the space before a word together with it
        return text[:place] if begun else text[:place].rstrip(" ")

    def stops(self, ignored: Sequence[str] = ()) -> list[str]:
        """What ends the assistant's turn: what the template writes between it and the other side's next message, and
        what is known of the family. Never a mark that may be part of a reply. Without the `ignored` ones.
        """
        family = family_of(self.template)
        found = [*find_separators(self._after_a_reply()), *family.ends, *family.others]
        inside = (*family.marks, *ignored)
        return list(dict.fromkeys(stop for stop in found if not any(stop in mark for mark in inside)))

    def _after_a_reply(self) -> str:
        """The text between a reply and the user's next message; "" if it cannot be determined."""
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


def find_separators(between: str) -> list[str]:
    """The parts of the text between two turns that show that a turn is over: marks in brackets, a numbered line, and a
    header with a colon.
    """
    if counted := _COUNTED.match(between):
        return [counted[1]]
    found: list[str] = []
    while len(found) < 3 and (match := _BRACKETED.match(between)):
        found.append(match[1])
        between = between[match.end() :]
    header = _HEADER.match(between)
    if header and "\n" in header[1]:
        found.append("\n" + header[2])
    elif header and len(header[2]) > 4:  # shorter ones, without their own line, may be normal words
        found.append(header[2])
    return found
