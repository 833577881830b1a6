"""POST /v1/completions: its shapes, streamed and whole."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
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
                "logprobs": _logprobs(answer) if with_logprobs else None,
                "finish_reason": finish_reason(answer.report.finish),
            }
            for answer in best
        ],
        "usage": answers.usage(),
        **warned(answers.all_warnings()),
    }


def _logprobs(answer: Answer) -> dict[str, Any]:
    tokens = [*answer.prompt_tokens(), *answer.tokens]
    return logprobs.for_completion(tokens, [*_prompt_starts(answer), *_starts(answer, answer.starts)])


def _prompt_starts(answer: Answer) -> list[int]:
    return answer.echo.starts if answer.echo else []


def _starts(answer: Answer, starts: Iterable[int]) -> list[int]:
    """Places in the reply, as places in what is shown."""
    before = len(answer.prompt)
    return [before + start for start in starts]


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
        self._said = [0] * len(answers.answers)  # characters of each reply

    def begin(self, answer: Answer) -> bytes:
        if not answer.prompt:
            return b""
        return self._event(answer, answer.prompt, answer.prompt_tokens(), _prompt_starts(answer))

    def piece(self, answer: Answer, piece: Piece) -> bytes:
        if not piece.text:
            return b""
        if self._with_logprobs:
            return b"".join(self._token_events(answer, piece))
        return (self._before[answer.index] + quoted(piece.text) + self._after).encode()

    def _token_events(self, answer: Answer, piece: Piece) -> Iterator[bytes]:
        """One for each token, since clients show one an event; text that was held back may hold several."""
        before = self._said[answer.index]
        self._said[answer.index] += len(piece.text)
        cuts = [0, *(start - before for start in piece.starts[1:]), len(piece.text)]
        if not piece.tokens:  # the rest of one that has been told of
            yield self._event(answer, piece.text, [], [])
        for at, token in enumerate(piece.tokens):
            offsets = _starts(answer, [piece.starts[at]])
            yield self._event(answer, piece.text[cuts[at] : cuts[at + 1]], [token], offsets)

    def end(self, answer: Answer) -> bytes:
        choice = {
            "index": answer.index,
            "text": "",
            "logprobs": None,
            "finish_reason": finish_reason(answer.report.finish),
        }
        return event({**self._head, "choices": [choice], **self._usage, **warned(self._answers.all_warnings())})

    def last(self, answers: Answers) -> bytes:
        return event({**self._head, "choices": [], "usage": answers.usage()}) if self._usage else b""

    def _event(self, answer: Answer, text: str, tokens: list[Token], offsets: list[int]) -> bytes:
        found = logprobs.for_completion(tokens, offsets) if self._with_logprobs and tokens else None
        choice = {"index": answer.index, "text": text, "logprobs": found, "finish_reason": None}
        return event({**self._head, "choices": [choice], **self._usage})


def warned(warnings: Sequence[str]) -> dict[str, Any]:
    """The field of an answer that holds them; without any it has none."""
    return {"warnings": list(warnings)} if warnings else {}
