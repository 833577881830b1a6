"""The saved form of a reply: its reasoning between `<think>` and `</think>` at the beginning, whatever its family
writes, then its answer. The original reads this form, and page, store, search and export need to know only one.

`ReplyWriter` writes that form from the parts of a growing reply; `split_reply` parses it; `continue_reply` converts it
back to a family's own marks, for a reply that is continued. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from modules.families.family import Family
from modules.families.parser import ReplyPart
from modules.families.reply_format import ReplyFormat
from modules.families.table import family_named

_OPENING, _CLOSING = "<think>", "</think>"
_BEGIN = re.compile(r"\s*<think>")
#: How the end of reasoning is written here and by others: not in quotes, where it is part of the text.
_OWN_END = re.compile(r"\n</think>(?=\n\n|\s*\Z)")
_END = re.compile("</think>")


@dataclass(frozen=True)
class SavedReply:
    """A reply's reasoning ("" for none), its answer, and whether the reasoning has ended. `length`: of the reasoning
    and its marks, in characters of the text.
    """

    thought: str
    answer: str
    done: bool = True
    length: int = 0


def split_reply(text: str) -> SavedReply:
    """The parts of a saved reply."""
    begun = _BEGIN.match(text)
    if begun:
        end = _OWN_END.search(text, begun.end()) if text.startswith("\n", begun.end()) else None
        end = end or next((each for each in _END.finditer(text, begun.end()) if not _is_quoted(each)), None)
        start, stop = end.span() if end else (len(text), len(text))
        return SavedReply(text[begun.end() : start].strip(), text[stop:].lstrip(), end is not None, stop)
    if text.startswith("<|channel|>"):  # the original's saved form for gpt-oss
        parser = ReplyFormat(family_named("gpt_oss"), "<|start|>assistant").parser()
        parts = [*parser.push(text), *parser.finish()]
        thought = "".join(part.text for part in parts if part.kind == "thought")
        answer = "".join(part.text for part in parts if part.kind == "text")
        done = parser.kind == "text"
        length = len(text) - len(answer) if answer and text.endswith(answer) else len(text)
        return SavedReply(thought, answer, done, length)
    return SavedReply("", text)


def _is_quoted(mark: re.Match[str]) -> bool:
    """Whether it is between two identical quotes or backticks: then it is part of the reasoning."""
    before, after = mark.string[mark.start() - 1], mark.string[mark.end() : mark.end() + 1]
    return before in "`\"'" and before == after


def join_reply(thought: str, answer: str) -> str:
    """The text of reasoning and an answer."""
    return f"{_OPENING}\n{thought}\n{_CLOSING}\n\n{answer}" if thought else answer


def continue_reply(text: str, reading: ReplyFormat) -> str:
    """The beginning of a reply in a family's marks, without what the prompt (`reading.prefix`) has already opened."""
    kept = split_reply(text)
    if not kept.length:
        return text
    family = reading.family
    opened = reading.opened
    thought = opened or family.own_thought
    if not kept.thought and kept.done:
        return kept.answer if opened is None else family.closes(thought).lstrip("\n") + kept.answer
    begun = kept.thought
    if family.header:
        mark = "<|channel|>analysis<|message|>" if family.name == "gpt_oss" else " to=self<|message|>"
        begun = mark + begun
    elif opened is None:
        begun = f"{thought.opening}\n{begun}"
    return begun + family.closes(thought) + kept.answer if kept.done else begun


class ReplyWriter:
    """Parses a growing reply and writes its saved form. `text` is the result after what was `begun`."""

    def __init__(self, reading: ReplyFormat, marks: Container[int], begun: str = "", *, trim: bool = True) -> None:
        self._parser = reading.parser(marks)
        self._thinking = self._parser.kind == "thought"
        self.trim = trim  # no space at the beginning of the answer
        self.answered = bool(split_reply(begun).answer)  # the answer has text
        self.tokens = 0  # of the reasoning
        self.changes = 0  # number of writes
        if self._thinking and not split_reply(begun).length:
            begun = f"{_OPENING}\n{begun}" if begun else ""
        self._pieces = [begun]
        self._size = len(begun)

    @property
    def text(self) -> str:
        """The text so far. Pieces are joined only when requested, so that a long reply stays cheap."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def size(self) -> int:
        """Approximate number of characters; 0 for a short text."""
        return self._size if self._size > 4_000 else 0

    def so_far(self) -> str:
        """The same for other threads than the writing one."""
        return "".join(tuple(self._pieces))

    @property
    def thinking(self) -> bool:
        """Whether reasoning is open."""
        return self._parser.kind == "thought"

    def push(self, text: str, tokens: int = 0) -> list[ReplyPart]:
        """The parts that are certain by now. Pass what is to be saved back to `write`."""
        if self.thinking:
            self.tokens += tokens
        return self._parser.push(text)

    def finish(self, *, cut: bool) -> list[ReplyPart]:
        """What was held back. `cut`: the model was interrupted."""
        return self._parser.finish(cut=cut)

    def write(self, kind: str, text: str) -> None:
        """Write a part, or what is shown of it."""
        self.changes += 1
        if kind == "thought":
            if not self._thinking or self._pieces == [""]:
                self._pieces.append(f"{_OPENING}\n")
            self._thinking = True
        else:
            if self._thinking:
                said = self.text.rstrip()
                self._pieces = [f"{said}\n{_CLOSING}\n\n" if said else ""]
                self._thinking = False
            if self.trim and not self.answered:
                text = text.lstrip()
            self.answered = self.answered or bool(text)
        self._pieces.append(text)
        self._size += len(text)


def thought_keys(template: str) -> Sequence[str]:
    """The names by which a template accesses reasoning."""
    return [key for key in ("reasoning_content", "reasoning", "thinking") if re.search(rf"[.'\"]{key}\b", template)]


def to_template_message(role: str, text: str, template: str) -> dict[str, object]:
    """A saved message as a template needs it: its answer, and its reasoning if the template uses it."""
    if role != "assistant" or not (kept := split_reply(text)).length:
        return {"role": role, "content": text}
    line: dict[str, object] = {"role": role, "content": kept.answer}
    if kept.thought:
        line.update(dict.fromkeys(thought_keys(template), kept.thought))
    return line


__all__ = [
    "Family",
    "ReplyWriter",
    "SavedReply",
    "continue_reply",
    "join_reply",
    "split_reply",
    "thought_keys",
    "to_template_message",
]
