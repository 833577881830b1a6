"""POST /v1/chat/completions: its response formats, streamed and not."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Container, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from loaders.base import Finish, Token
from modules.api import logprobs
from modules.api.completions import warnings_field
from modules.api.event_stream import encode_event
from modules.families.calls import ToolCall
from modules.families.parser import ReplyParser, ReplyPart
from modules.families.reply_format import ReplyFormat
from modules.generation.completions import Completion, CompletionBatch, finish_reason
from modules.generation.stream import TextPiece


@dataclass(frozen=True)
class ChatReplyFormat:
    """How a reply is returned: parsed by `reading`, with or without reasoning, with one call or all of them.

    `old`: a call is a `function_call`, as before tools existed.
    """

    reading: ReplyFormat
    thoughts: bool = True
    one_call: bool = False
    old: bool = False

    def called(self, calls: Sequence[ToolCall], first: int | None = None) -> dict[str, Any]:
        """Calls in a message's form; in a stream, numbered from `first`."""
        if self.old:
            return {"function_call": {"name": calls[0].name, "arguments": calls[0].arguments}}
        numbers = [{} if first is None else {"index": first + place} for place in range(len(calls))]
        return {"tool_calls": [{**number, **_call(call)} for number, call in zip(numbers, calls, strict=True)]}

    @property
    def reason(self) -> str:
        """The finish reason of a reply that ends with a call."""
        return "function_call" if self.old else "tool_calls"

    def parser(self, marks: Container[int]) -> ReplyParser:
        return self.reading.parser(marks)

    def wanted(self, parts: list[ReplyPart], calls: int) -> list[ReplyPart]:
        """The calls that the client accepts, after this many."""
        kept = []
        for part in parts:
            calls += part.call is not None
            if not (part.kind == "thought" and not self.thoughts) and not (part.call and self.one_call and calls > 1):
                kept.append(part)
        return kept


def chat_response(answers: CompletionBatch, *, with_logprobs: bool, form: ChatReplyFormat) -> dict[str, Any]:
    """The complete response. Raises: UserError if a reply failed."""
    best = answers.best()
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answers.model,
        "choices": [_choice(answer, with_logprobs, form) for answer in best],
        "usage": answers.usage(),
        **warnings_field(answers.all_warnings()),
    }


def _choice(answer: Completion, with_logprobs: bool, form: ChatReplyFormat) -> dict[str, Any]:
    # an extension may have changed the text, so that the tokens' positions no longer apply
    parser = form.parser(answer.stream.marks if answer.changed is None else frozenset())
    parts = form.wanted([*parser.push(answer.reply), *parser.finish(cut=_cut(answer))], 0)
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
        message.update(form.called(calls))
    return {
        "index": answer.index,
        "message": message,
        "logprobs": logprobs.chat_logprobs(answer.tokens) if with_logprobs else None,
        "finish_reason": form.reason if calls else finish_reason(answer.report.finish),
    }


def _cut(answer: Completion) -> bool:
    """Whether the model was interrupted."""
    return answer.report.finish is not Finish.STOP


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class ChatChunks:
    """The events of a streamed chat. The parts that all events share are encoded once."""

    def __init__(
        self, answers: CompletionBatch, *, with_logprobs: bool, with_usage: bool, form: ChatReplyFormat
    ) -> None:
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

    def begin(self, answer: Completion) -> bytes:
        return self._chunk(answer, {"role": "assistant", "content": ""})

    def piece(self, answer: Completion, piece: TextPiece) -> bytes:
        split = self._splits[answer.index]
        parts = self._form.wanted(split.push(piece.text), self._calls[answer.index]) if piece.text else []
        if not self._with_logprobs and len(parts) == 1 and parts[0].kind == "text":
            return (self._before[answer.index] + quoted(parts[0].text) + self._after).encode()
        return self._parts(answer, parts, piece.tokens if self._with_logprobs else None)

    def end(self, answer: Completion) -> bytes:
        split = self._splits[answer.index]
        rest = self._parts(answer, self._form.wanted(split.finish(cut=_cut(answer)), self._calls[answer.index]), None)
        reason = self._form.reason if split.calls else finish_reason(answer.report.finish)
        choice = {"index": answer.index, "delta": {}, "logprobs": None, "finish_reason": reason}
        return rest + encode_event(
            {**self._head, "choices": [choice], **self._usage, **warnings_field(self._answers.all_warnings())}
        )

    def last(self, answers: CompletionBatch) -> bytes:
        return encode_event({**self._head, "choices": [], "usage": answers.usage()}) if self._usage else b""

    def _parts(self, answer: Completion, parts: list[ReplyPart], tokens: list[Token] | None) -> bytes:
        written = b""
        for part in parts or ([ReplyPart("text")] if tokens else []):
            delta: dict[str, Any] = {"reasoning_content" if part.kind == "thought" else "content": part.text}
            if part.call:
                delta = self._form.called([part.call], self._calls[answer.index])
                self._calls[answer.index] += 1
            written += self._chunk(answer, delta, tokens)
            tokens = None  # sent only once
        return written

    def _chunk(self, answer: Completion, delta: dict[str, Any], tokens: list[Token] | None = None) -> bytes:
        found = logprobs.chat_logprobs(tokens) if tokens else None
        choice = {"index": answer.index, "delta": delta, "logprobs": found, "finish_reason": None}
        return encode_event({**self._head, "choices": [choice], **self._usage})
