"""Log-probabilities as servers write them: in two forms, with names or ids, of one token or several in an event."""

from __future__ import annotations

import math
from typing import Any

import pytest

from loaders.base import Report
from loaders.remote.replies import NO_ID, read_openai

PIECES = {1: b"Hello", 2: b"world", 3: b"\xef\xbf\xbd"}


def old(names: list[str], values: list[float | None] | None = None, tops: Any = None) -> dict[str, Any]:
    return {"tokens": names, "token_logprobs": values or [-1.0] * len(names), "top_logprobs": tops}


def new(*texts: str, tops: Any = ()) -> dict[str, Any]:
    return {"content": [{"token": each, "bytes": [*each.encode()], "logprob": -1.0, "top_logprobs": tops}
                        for each in texts]}  # fmt: skip


#: Name, the text, the ids, the log-probabilities, the bytes of the tokens, their ids.
EVENTS: list[tuple[str, str, list[int], dict[str, Any], list[bytes], list[int]]] = [
    ("one", " Hi", [], old(["\u0120Hi"]), [b" Hi"], [NO_ID]),
    ("texts", " Hello world", [], old([" Hello", " world"]), [b" Hello", b" world"], [NO_ID] * 2),
    ("names", " Hello world", [], old(["\u2581Hello", "\u2581world"]), [b" Hello world", b""], [NO_ID] * 2),
    ("names and ids", " Hello world", [1, 2], old(["\u2581Hello", "\u2581world"]), [b" Hello world", b""], [1, 2]),
    ("ids as names", " Hello world", [1, 2], old(["token_id:1", "token_id:2"]), [b" Hello world", b""], [1, 2]),
    ("parts of a character by id", "\u4e2d", [3, 3], old(["token_id:3"] * 2), ["\u4e2d".encode(), b""], [3, 3]),
    ("parts as bytes", "\u4e2d", [], old(["bytes:\\xe4\\xb8", "bytes:\\xad"]), [b"\xe4\xb8", b"\xad"], [NO_ID] * 2),
    ("a text that begins so", "bytes:", [], old(["bytes", ":"]), [b"bytes", b":"], [NO_ID] * 2),
    ("held back", "", [3], old(["token_id:3"]), [b""], [3]),
    ("the new form", "Hello", [], new("Hel", "lo"), [b"Hel", b"lo"], [NO_ID] * 2),
    ("the new form with an id", "Hi", [], {"content": [{"id": 5, "token": "Hi", "logprob": -1.0}]}, [b"Hi"], [5]),
    ("the new form held back", "", [], {"content": [{"token": "", "bytes": [228], "logprob": -1.0}]}, [b""], [NO_ID]),
]


@pytest.mark.parametrize(
    ("text", "ids", "logprobs", "pieces", "known"), [each[1:] for each in EVENTS], ids=[each[0] for each in EVENTS]
)
def test_the_text_is_the_servers_however_its_tokens_are_named(
    text: str, ids: list[int], logprobs: dict[str, Any], pieces: list[bytes], known: list[int]
) -> None:
    """Formerly, several tokens in one event were put together from their names: without spaces, or with other marks."""
    choice = {"text": text, "token_ids": ids, "logprobs": logprobs}
    tokens = read_openai({"choices": [choice]}, Report(), PIECES.__getitem__).tokens
    assert [each.data for each in tokens] == pieces
    assert b"".join(pieces) == text.encode()
    assert [each.id for each in tokens] == known
    assert [each.logprob for each in tokens] == [-1.0] * len(pieces)


@pytest.mark.parametrize(
    "logprobs",
    [
        old(["a"], tops=[{"b": -2.0, "c": None}]),
        new("a", tops=[{"token": "b", "logprob": -2.0}, {"token": "c", "bytes": [99], "logprob": None}]),
    ],
)
def test_alternatives_in_both_forms(logprobs: dict[str, Any]) -> None:
    (token,) = read_openai({"choices": [{"text": "a", "logprobs": logprobs}]}, Report(), PIECES.__getitem__).tokens
    assert [(each.data, each.logprob) for each in token.alternatives] == [(b"b", -2.0), (b"c", -math.inf)]
