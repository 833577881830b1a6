"""A reply as it is kept: its thought between `<think>` and `</think>` at the beginning, whatever its family writes,
then its answer. So the original reads it, and page, store, search and export need to know one form.

`Transcript` writes that form from the parts of a reply that grows; `split` reads it; `continued` says it again in a
family's own marks, for a reply that goes on. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from modules.families.family import Family
from modules.families.parser import Part
from modules.families.reading import Reading
from modules.families.table import named

_OPENING, _CLOSING = "<think>", "</think>"
_THOUGHT = re.compile(r"\A\s*<think>(?P<thought>.*?)(?P<end></think>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Kept:
    """A reply's thought ("" for none), its answer, and whether the thought is over. `length`: of the thought and its
    marks, in characters of the text.
    """

    thought: str
    answer: str
    done: bool = True
    length: int = 0


def split(text: str) -> Kept:
    """The parts of a reply that is kept."""
    match = _THOUGHT.match(text)
    if match:
        rest = text[match.end() :]
        return Kept(match["thought"].strip(), rest.lstrip(), match["end"] != "", match.end())
    if text.startswith("<|channel|>"):  # as the original keeps a reply of gpt-oss
        parser = Reading(named("gpt_oss"), "<|start|>assistant").parser()
        parts = [*parser.push(text), *parser.finish()]
        thought = "".join(part.text for part in parts if part.kind == "thought")
        answer = "".join(part.text for part in parts if part.kind == "text")
        done = parser.kind == "text"
        length = len(text) - len(answer) if answer and text.endswith(answer) else len(text)
        return Kept(thought, answer, done, length)
    return Kept("", text)


def joined(thought: str, answer: str) -> str:
    """The text of a thought and an answer."""
    return f"{_OPENING}\n{thought}\n{_CLOSING}\n\n{answer}" if thought else answer


def continued(text: str, reading: Reading) -> str:
    """The beginning of a reply in the marks of a family, as far as the prompt (`reading.prefix`) has not opened it."""
    kept = split(text)
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


class Transcript:
    """Takes a reply apart while it comes, and writes it down. `text` is what there is, after what was `begun`."""

    def __init__(self, reading: Reading, marks: Container[int], begun: str = "", *, trim: bool = True) -> None:
        self._parser = reading.parser(marks)
        self._thinking = self._parser.kind == "thought"
        self.trim = trim  # no space at the beginning of the answer
        self.answered = bool(split(begun).answer)  # something has been said
        self.tokens = 0  # of the thought
        if self._thinking and not split(begun).length:
            begun = f"{_OPENING}\n{begun}" if begun else ""
        self.text = begun

    @property
    def thinking(self) -> bool:
        """Whether a thought is open."""
        return self._parser.kind == "thought"

    def push(self, text: str, tokens: int = 0) -> list[Part]:
        """The parts that are certain by now. What of them is to be kept is given back by `write`."""
        if self.thinking:
            self.tokens += tokens
        return self._parser.push(text)

    def finish(self) -> list[Part]:
        """What was held back."""
        return self._parser.finish()

    def write(self, kind: str, text: str) -> None:
        """Put down a part, or what is shown of it."""
        if kind == "thought":
            if not self.text or not self._thinking:
                self.text += f"{_OPENING}\n"
            self._thinking = True
        else:
            if self._thinking:
                self.text = f"{self.text.rstrip()}\n{_CLOSING}\n\n" if self.text else ""
                self._thinking = False
            if self.trim and not self.answered:
                text = text.lstrip()
            self.answered = self.answered or bool(text)
        self.text += text


def thought_keys(template: str) -> Sequence[str]:
    """By which names a template asks for what was thought."""
    return [key for key in ("reasoning_content", "reasoning", "thinking") if re.search(rf"[.'\"]{key}\b", template)]


def as_line(role: str, text: str, template: str) -> dict[str, object]:
    """A kept message as a template wants it: its answer, and its thought where the template asks for one."""
    if role != "assistant" or not (kept := split(text)).length:
        return {"role": role, "content": text}
    line: dict[str, object] = {"role": role, "content": kept.answer}
    if kept.thought:
        line.update(dict.fromkeys(thought_keys(template), kept.thought))
    return line


__all__ = ["Family", "Kept", "Transcript", "as_line", "continued", "joined", "split", "thought_keys"]
