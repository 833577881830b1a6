"""Log-probabilities in OpenAI's two formats. Numbers are finite, texts contain whole characters only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loaders.base import Token

_LEAST = -9999.0  # JSON has no infinity


def token_text(data: bytes) -> str:
    """A token's text; part of a character is written as its bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def finite_logprob(logprob: float | None) -> float | None:
    return None if logprob is None else min(max(logprob, _LEAST), 0.0)


def completion_logprobs(tokens: Sequence[Token], offsets: Sequence[int]) -> dict[str, Any]:
    """Lists of equal length. `offsets`: the characters of the text before each of these tokens."""
    return {
        "tokens": [token_text(token.data) for token in tokens],
        "token_logprobs": [finite_logprob(token.logprob) for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": list(offsets),
    }


def _top(token: Token) -> dict[str, float | None] | None:
    if token.logprob is None:
        return None
    top: dict[str, float | None] = {}
    for other in token.alternatives:
        top.setdefault(token_text(other.data), finite_logprob(other.logprob))  # for equal texts, the more likely token
    top.setdefault(token_text(token.data), finite_logprob(token.logprob))
    return top


def chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    return {
        "content": [
            {
                **_entry(token.data, token.logprob),
                "top_logprobs": [_entry(other.data, other.logprob) for other in token.alternatives],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _entry(data: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": token_text(data), "logprob": finite_logprob(logprob), "bytes": list(data)}
