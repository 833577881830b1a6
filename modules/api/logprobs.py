"""Log-probabilities in OpenAI's two shapes. Numbers are finite, texts are whole characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loaders.base import Token

_LEAST = -9999.0  # JSON has no infinity


def text_of(data: bytes) -> str:
    """A token's text; a part of a character is written as its bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def number(logprob: float | None) -> float | None:
    return None if logprob is None else min(max(logprob, _LEAST), 0.0)


def for_completion(tokens: Sequence[Token], offsets: Sequence[int]) -> dict[str, Any]:
    """Lists of equal length. `offsets`: the characters of the text before each of these tokens."""
    return {
        "tokens": [text_of(token.data) for token in tokens],
        "token_logprobs": [number(token.logprob) for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": list(offsets),
    }


def _top(token: Token) -> dict[str, float | None] | None:
    if token.logprob is None:
        return None
    top: dict[str, float | None] = {}
    for other in token.alternatives:
        top.setdefault(text_of(other.data), number(other.logprob))  # of the same text, the likelier
    top.setdefault(text_of(token.data), number(token.logprob))
    return top


def for_chat(tokens: Sequence[Token]) -> dict[str, Any]:
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
    return {"token": text_of(data), "logprob": number(logprob), "bytes": list(data)}
