"""POST /v1/completions: its response formats, streamed and not."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from loaders.base import Token
from modules.api import logprobs
from modules.api.event_stream import encode_event
from modules.generation.completions import Completion, CompletionBatch, finish_reason
from modules.generation.stream import TextPiece


def completion_response(answers: CompletionBatch, *, with_logprobs: bool) -> dict[str, Any]:
    """The complete response. Raises: UserError if a reply failed."""
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
                "logprobs": _logprobs(answer) if with_logprobs else None,
                "finish_reason": finish_reason(answer.report.finish),
            }
            for answer in best
        ],
        "usage": answers.usage(),
        **warnings_field(answers.all_warnings()),
    }


def _logprobs(answer: Completion) -> dict[str, Any]:
    tokens = [*answer.prompt_tokens(), *answer.tokens]
    return logprobs.completion_logprobs(tokens, [*_prompt_starts(answer), *_starts(answer, answer.starts)])


def _prompt_starts(answer: Completion) -> list[int]:
    return answer.echo.starts if answer.echo else []


def _starts(answer: Completion, starts: Iterable[int]) -> list[int]:
    """Positions in the reply, as positions in the returned text."""
    before = len(answer.prompt)
    return [before + start for start in starts]


class CompletionChunks:
    """The events of a streamed completion. The parts that all events share are encoded once."""

    def __init__(self, answers: CompletionBatch, *, with_logprobs: bool, with_usage: bool) -> None:
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
        self._said = [0] * len(answers.answers)  # characters of each reply

    def begin(self, answer: Completion) -> bytes:
        if not answer.prompt:
            return b""
        return self._event(answer, answer.prompt, answer.prompt_tokens(), _prompt_starts(answer))

    def piece(self, answer: Completion, piece: TextPiece) -> bytes:
        if not piece.text:
            return b""
        if self._with_logprobs:
            return b"".join(self._token_events(answer, piece))
        return (self._before[answer.index] + quoted(piece.text) + self._after).encode()

    def _token_events(self, answer: Completion, piece: TextPiece) -> Iterator[bytes]:
        """One event per token, as clients expect; text that was held back may contain several."""
        before = self._said[answer.index]
        self._said[answer.index] += len(piece.text)
        cuts = [0, *(start - before for start in piece.starts[1:]), len(piece.text)]
        if not piece.tokens:  # the rest of a token that was sent already
            yield self._event(answer, piece.text, [], [])
        for at, token in enumerate(piece.tokens):
            offsets = _starts(answer, [piece.starts[at]])
            yield self._event(answer, piece.text[cuts[at] : cuts[at + 1]], [token], offsets)

    def end(self, answer: Completion) -> bytes:
        choice = {
            "index": answer.index,
            "text": "",
            "logprobs": None,
            "finish_reason": finish_reason(answer.report.finish),
        }
        return encode_event(
            {**self._head, "choices": [choice], **self._usage, **warnings_field(self._answers.all_warnings())}
        )

    def last(self, answers: CompletionBatch) -> bytes:
        return encode_event({**self._head, "choices": [], "usage": answers.usage()}) if self._usage else b""

    def _event(self, answer: Completion, text: str, tokens: list[Token], offsets: list[int]) -> bytes:
        found = logprobs.completion_logprobs(tokens, offsets) if self._with_logprobs and tokens else None
        choice = {"index": answer.index, "text": text, "logprobs": found, "finish_reason": None}
        return encode_event({**self._head, "choices": [choice], **self._usage})


def warnings_field(warnings: Sequence[str]) -> dict[str, Any]:
    """The response field for warnings; absent if there are none."""
    return {"warnings": list(warnings)} if warnings else {}
