"""POST /v1/chat/completions: its shapes, streamed and whole."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Container
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from loaders.base import Token
from modules.api import logprobs
from modules.api.completions import warned
from modules.api.stream import event
from modules.families.calls import Call
from modules.families.parser import Parser, Part
from modules.families.reading import Reading
from modules.generation.completions import Answer, Answers, finish_reason
from modules.generation.stream import Piece


@dataclass(frozen=True)
class Form:
    """How a reply is given: taken apart by `reading`, with its thoughts or without, with one call or all of them."""

    reading: Reading
    thoughts: bool = True
    one_call: bool = False

    def parser(self, marks: Container[int]) -> Parser:
        return self.reading.parser(marks)

    def wanted(self, parts: list[Part], calls: int) -> list[Part]:
        """Those that the client wants, after so many calls."""
        kept = []
        for part in parts:
            calls += part.call is not None
            if not (part.kind == "thought" and not self.thoughts) and not (part.call and self.one_call and calls > 1):
                kept.append(part)
        return kept


def whole(answers: Answers, *, with_logprobs: bool, form: Form) -> dict[str, Any]:
    """The answer in one piece. Raises: UserError, when a reply failed."""
    best = answers.best()
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answers.model,
        "choices": [_choice(answer, with_logprobs, form) for answer in best],
        "usage": answers.usage(),
        **warned(answers.all_warnings()),
    }


def _choice(answer: Answer, with_logprobs: bool, form: Form) -> dict[str, Any]:
    # an extension may have made another text of it, in which the tokens' places say nothing
    parser = form.parser(answer.stream.marks if answer.changed is None else frozenset())
    parts = form.wanted([*parser.push(answer.reply), *parser.finish()], 0)
    calls = [part.call for part in parts if part.call]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(part.text for part in parts if part.kind == "text"),
    }
    thought = "".join(part.text for part in parts if part.kind == "thought")
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [_call(call) for call in calls]
    return {
        "index": answer.index,
        "message": message,
        "logprobs": logprobs.for_chat(answer.tokens) if with_logprobs else None,
        "finish_reason": "tool_calls" if calls else finish_reason(answer.report.finish),
    }


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class Chunks:
    """The events of a streamed chat. What is the same in all of them is written once."""

    def __init__(self, answers: Answers, *, with_logprobs: bool, with_usage: bool, form: Form) -> None:
        self._form = form
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": answers.model,
        }
        self._answers = answers
        self._with_logprobs = with_logprobs
        self._usage: dict[str, Any] = {"usage": None} if with_usage else {}
        self._splits = [form.parser(answer.stream.marks) for answer in answers.answers]
        self._calls = [0] * len(answers.answers)
        head = f"data: {json.dumps(self._head)[:-1]}, "
        self._before = [f'{head}"choices": [{{"index": {i}, "delta": {{"content": ' for i in range(len(self._splits))]
        tail = '}, "logprobs": null, "finish_reason": null}]' + (', "usage": null' if with_usage else "") + "}\n\n"
        self._after = tail

    def begin(self, answer: Answer) -> bytes:
        return self._chunk(answer, {"role": "assistant", "content": ""})

    def piece(self, answer: Answer, piece: Piece) -> bytes:
        split = self._splits[answer.index]
        parts = self._form.wanted(split.push(piece.text), self._calls[answer.index]) if piece.text else []
        if not self._with_logprobs and len(parts) == 1 and parts[0].kind == "text":
            return (self._before[answer.index] + quoted(parts[0].text) + self._after).encode()
        return self._parts(answer, parts, piece.tokens if self._with_logprobs else None)

    def end(self, answer: Answer) -> bytes:
        split = self._splits[answer.index]
        rest = self._parts(answer, self._form.wanted(split.finish(), self._calls[answer.index]), None)
        reason = "tool_calls" if split.calls else finish_reason(answer.report.finish)
        choice = {"index": answer.index, "delta": {}, "logprobs": None, "finish_reason": reason}
        return rest + event({**self._head, "choices": [choice], **self._usage, **warned(self._answers.all_warnings())})

    def last(self, answers: Answers) -> bytes:
        return event({**self._head, "choices": [], "usage": answers.usage()}) if self._usage else b""

    def _parts(self, answer: Answer, parts: list[Part], tokens: list[Token] | None) -> bytes:
        written = b""
        for part in parts or ([Part("text")] if tokens else []):
            delta: dict[str, Any] = {"reasoning_content" if part.kind == "thought" else "content": part.text}
            if part.call:
                delta = {"tool_calls": [{"index": self._calls[answer.index], **_call(part.call)}]}
                self._calls[answer.index] += 1
            written += self._chunk(answer, delta, tokens)
            tokens = None  # they are said once
        return written

    def _chunk(self, answer: Answer, delta: dict[str, Any], tokens: list[Token] | None = None) -> bytes:
        found = logprobs.for_chat(tokens) if tokens else None
        choice = {"index": answer.index, "delta": delta, "logprobs": found, "finish_reason": None}
        return event({**self._head, "choices": [choice], **self._usage})
