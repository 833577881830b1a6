"""POST /v1/completions: its shapes, streamed and whole."""

from __future__ import annotations

import json
import time
import uuid
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from loaders.base import Token
from modules.api import logprobs
from modules.api.stream import event
from modules.generation.completions import Answer, Answers, finish_reason
from modules.generation.stream import Piece


def whole(answers: Answers, *, with_logprobs: bool) -> dict[str, Any]:
    """The answer in one piece. Raises: UserError, when a reply failed."""
    best = answers.best()
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": answers.model,
        "choices": [
            {
                "index": answer.index,
                "text": answer.text,
                "logprobs": logprobs.for_completion(answer.tokens, 0) if with_logprobs else None,
                "finish_reason": finish_reason(answer.report.finish),
            }
            for answer in best
        ],
        "usage": answers.usage(),
        **warned(answers),
    }


class Chunks:
    """The events of a streamed completion. What is the same in all of them is written once."""

    def __init__(self, answers: Answers, *, with_logprobs: bool, with_usage: bool) -> None:
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": answers.model,
        }
        self._answers = answers
        self._with_logprobs = with_logprobs
        self._usage: dict[str, Any] = {"usage": None} if with_usage else {}
        tail = ', "logprobs": null, "finish_reason": null}]' + (', "usage": null' if with_usage else "") + "}\n\n"
        head = f"data: {json.dumps(self._head)[:-1]}, "
        self._before = [f'{head}"choices": [{{"index": {i}, "text": ' for i in range(len(answers.answers))]
        self._after = tail
        self._offsets = [len(answer.prompt) for answer in answers.answers]

    def begin(self, answer: Answer) -> bytes:
        if not answer.prompt:
            return b""
        return self._event(answer, answer.prompt, answer.prompt_tokens, 0)

    def piece(self, answer: Answer, piece: Piece) -> bytes:
        if self._with_logprobs:
            offset = self._offsets[answer.index]
            self._offsets[answer.index] += len(piece.text)
            return self._event(answer, piece.text, piece.tokens, offset)
        if not piece.text:
            return b""
        return (self._before[answer.index] + quoted(piece.text) + self._after).encode()

    def end(self, answer: Answer) -> bytes:
        choice = {
            "index": answer.index,
            "text": "",
            "logprobs": None,
            "finish_reason": finish_reason(answer.report.finish),
        }
        return event({**self._head, "choices": [choice], **self._usage, **warned(self._answers)})

    def last(self, answers: Answers) -> bytes:
        return event({**self._head, "choices": [], "usage": answers.usage()}) if self._usage else b""

    def _event(self, answer: Answer, text: str, tokens: list[Token], offset: int) -> bytes:
        found = logprobs.for_completion(tokens, offset) if self._with_logprobs else None
        choice = {"index": answer.index, "text": text, "logprobs": found, "finish_reason": None}
        return event({**self._head, "choices": [choice], **self._usage})


def warned(answers: Answers) -> dict[str, Any]:
    warnings = answers.all_warnings()
    return {"warnings": warnings} if warnings else {}
