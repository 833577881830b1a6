"""What servers answer: their events as tokens, in the form of llama-server and in that of OpenAI's routes.

Pure, except for looking up tokens. It must not know how events arrive.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from errors import UserError
from loaders.base import Alternative, Finish, Report, Token

#: The id of a piece of text of which the server does not say which token it is.
NO_ID = -1
#: OpenAI's routes write ids of tokens so, if they are asked for them.
_ID_MARK = "token_id:"
#: And a part of a character so: bytes:\xe4\xb8.
_BYTES_MARK = "bytes:"
_BYTES = re.compile(r"bytes:(\\x[0-9a-fA-F]{2})+")

#: Why a reply ends by itself, and because it is as long as it may be. Others (abort, content_filter) cut it.
_NATURAL = frozenset(("stop", "eos", "eos_token", "stop_sequence", "stop_token", "stop_str", "tool_calls"))
_FULL = frozenset(("length", "max_tokens"))


class WrongForm(ValueError):
    """A known form of another route; the message is a clause."""


Piece = Callable[[int], bytes]


@dataclass
class Event:
    """One event: its tokens; why the reply has ended, if it has; the model that answers ("" if not said)."""

    tokens: Sequence[Token] = ()
    finish: Finish | None = None
    model: str = ""
    warnings: list[str] = field(default_factory=list)


def read_llama_server(data: Any, report: Report, alternatives: int | None) -> Event:
    """An event of /completion. Raises: KeyError, TypeError, ValueError, if it is none."""
    text: str = data["content"]
    ids: Sequence[int] = data.get("tokens") or ()
    if data["stop"]:
        timings = data.get("timings") or {}
        cached = int(timings.get("cache_n", 0))
        _reuse(report, cached, int(data.get("tokens_evaluated", report.prompt_tokens)))
        report.drafted_tokens = int(timings.get("draft_n", 0))
        report.accepted_tokens = int(timings.get("draft_n_accepted", 0))
        cut = [f"The server cut the prompt to its context of {data.get('n_ctx', '?')} tokens."]
        return Event(
            [Token(NO_ID, text.encode())] if text else (),
            Finish.LENGTH if data.get("stop_type") == "limit" else Finish.STOP,
            str(data.get("model") or ""),
            cut if data.get("truncated") else [],
        )
    known = data.get("completion_probabilities")
    if known and alternatives is not None:
        return Event([_with_logprobs(each, alternatives) for each in known])
    if len(ids) == 1:
        return Event((Token(int(ids[0]), text.encode()),))
    return Event(_tokens(ids, text.encode()))


def _with_logprobs(entry: Any, alternatives: int) -> Token:
    others = tuple(
        Alternative(int(each["id"]), bytes(each["bytes"]), float(each["logprob"]))
        for each in entry["top_logprobs"][:alternatives]
    )
    return Token(int(entry["id"]), bytes(entry["bytes"]), float(entry["logprob"]), others)


def read_openai(data: Any, report: Report, piece: Piece) -> Event:
    """An event of /v1/completions; `piece` looks up a token's bytes. Raises: KeyError, TypeError, ValueError."""
    model = str(data.get("model") or "")
    if usage := data.get("usage"):
        details = usage.get("prompt_tokens_details") or {}
        prompt = int(usage.get("prompt_tokens") or report.prompt_tokens)
        _reuse(report, int(details.get("cached_tokens") or 0), prompt)
    choices = data.get("choices") if "usage" in data else data["choices"]
    if not choices:
        return Event(model=model)
    choice = choices[0]
    if "text" not in choice and not {"delta", "message"}.isdisjoint(choice):
        raise WrongForm("it is the form of a chat")
    text, logprobs = choice.get("text") or "", choice.get("logprobs")
    ids: Sequence[int] = choice.get("token_ids") or ()
    tokens: Sequence[Token]
    if logprobs and logprobs.get("tokens"):
        tokens = _openai_logprobs(logprobs, ids, text, piece)
    elif logprobs and logprobs.get("content"):
        tokens = _new_logprobs(logprobs["content"], text)
    elif len(ids) == 1:
        tokens = (Token(int(ids[0]), text.encode()),)
    else:
        tokens = _tokens(ids, text.encode())
    reason = str(choice.get("finish_reason") or "")
    finish = None if not reason else Finish.LENGTH if reason in _FULL else Finish.STOP
    early = bool(reason) and reason not in _FULL and reason not in _NATURAL
    said = [f"The server ended the reply early: {' '.join(reason.split())[:80]}."] if early else []
    return Event(tokens, finish, model, said)


def _tokens(ids: Sequence[int], data: bytes) -> list[Token]:
    """Several tokens whose text is known as a whole: the first one has it."""
    if not ids:
        return [Token(NO_ID, data)] if data else []
    return [Token(int(ids[0]), data), *(Token(int(each), b"") for each in ids[1:])]


def _openai_logprobs(logprobs: Any, ids: Sequence[int], text: str, piece: Piece) -> list[Token]:
    """The form of /v1/completions; the tokens have the text as it is, whatever their names are."""
    names = logprobs["tokens"]
    values = logprobs.get("token_logprobs") or [None] * len(names)
    tops = logprobs.get("top_logprobs") or [None] * len(names)
    found = []
    for index, (name, value, top) in enumerate(zip(names, values, tops, strict=True)):
        token, data = _named(name, piece)
        if token == NO_ID and index < len(ids):
            token = int(ids[index])
        others = tuple(Alternative(*_named(other, piece), _likely(likely)) for other, likely in (top or {}).items())
        found.append(Token(token, data, None if value is None else float(value), others))
    return _with_text(found, text)


def _new_logprobs(entries: Any, text: str) -> list[Token]:
    """The form of /v1/chat/completions, which llama-server has for both."""
    found = []
    for each in entries:
        others = tuple(
            Alternative(int(other.get("id", NO_ID)), _bytes_of(other), _likely(other["logprob"]))
            for other in each.get("top_logprobs") or ()
        )
        value = each.get("logprob")
        found.append(
            Token(int(each.get("id", NO_ID)), _bytes_of(each), None if value is None else float(value), others)
        )
    return _with_text(found, text)


def _with_text(tokens: list[Token], text: str) -> list[Token]:
    """Names of tokens have marks for spaces and parts of characters, so they may not be the text: the first has it
    then.
    """
    data = text.encode()
    if b"".join(each.data for each in tokens) == data:
        return tokens
    return [replace(each, data=b"" if index else data) for index, each in enumerate(tokens)]


def _bytes_of(entry: Any) -> bytes:
    given = entry.get("bytes")
    return str(entry["token"]).encode() if given is None else bytes(given)


def _likely(value: Any) -> float:
    """JSON has no infinity."""
    return -math.inf if value is None else float(value)


def _named(name: str, piece: Piece) -> tuple[int, bytes]:
    if name.startswith(_ID_MARK):
        token = int(name.removeprefix(_ID_MARK))
        with contextlib.suppress(UserError):
            return token, piece(token)
        return token, b""
    if _BYTES.fullmatch(name):
        return NO_ID, bytes.fromhex(name.removeprefix(_BYTES_MARK).replace("\\x", ""))
    return NO_ID, name.encode()


def _reuse(report: Report, cached: int, prompt: int) -> None:
    report.prompt_tokens = prompt
    report.reused_tokens = min(cached, prompt)
    report.reuse_reason = "by the server's cache" if cached else "the server had none of them"
