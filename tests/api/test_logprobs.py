"""Log-probabilities: the same in streams and complete replies, for the visible tokens, at the right positions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Client
from tests.api.test_openai import events
from tests.fake_engine import FakeModel

KEYS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def both(api: Client, **more: Any) -> tuple[str, dict[str, Any]]:
    """The text and log-probabilities of a completion, which are the same when streamed."""
    body = {"prompt": "x", "logprobs": 1, **more}
    whole = api.post("/v1/completions", body).json()["choices"][0]
    chunks = [chunk["choices"][0] for chunk in events(api.post("/v1/completions", {**body, "stream": True}).text)]
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    for key in KEYS:
        streamed = [each for chunk in chunks for each in (chunk["logprobs"] or {}).get(key, [])]
        assert streamed == whole["logprobs"][key], key
    return whole["text"], whole["logprobs"]


def test_an_offset_is_where_the_token_begins_in_the_text(api: Client) -> None:
    api.use(FakeModel(["é", b"\xf0\x9f", b"\x98\x80", "ab", "\ud7ff".encode(), b"\xff", "c"]))
    text, found = both(api)
    assert text == "é😀ab\ud7ff\ufffdc"
    assert found["text_offset"] == [0, 1, 1, 2, 4, 5, 6]


def test_offsets_count_the_prompt_that_is_shown(api: Client) -> None:
    api.use(FakeModel(["é", "b"]))
    text, found = both(api, prompt="😀n", echo=True)
    assert text == "😀néb"
    assert found["text_offset"] == [0, 0, 0, 0, 1, 2, 3]


def test_text_that_is_held_back_does_not_shift_the_offsets(api: Client) -> None:
    api.use(FakeModel(["ab\n", "Yo", "ga", "\n", "c"]))
    text, found = both(api, stop=["\nYou:"])
    assert text == "ab\nYoga\nc"
    assert found["text_offset"] == [0, 3, 5, 7, 8]


def test_a_token_has_an_event_of_its_own(api: Client) -> None:
    """Clients show the log-probabilities of one token per event, even if several were held back."""
    api.use(FakeModel(["ab\n", "Yo", "ga", "u:", b"\xf0\x9f", b"\x98\x80"]))
    body = {"prompt": "x", "logprobs": 1, "stop": ["\nYogu;"], "stream": True}
    chunks = [chunk["choices"][0] for chunk in events(api.post("/v1/completions", body).text)]
    said = [(chunk["text"], chunk["logprobs"]["tokens"]) for chunk in chunks if chunk["logprobs"]]
    assert all(len(tokens) == 1 for _, tokens in said)
    assert [text for text, _ in said] == ["ab", "\nYo", "ga", "u:", "", "😀"]


@pytest.mark.parametrize("reply", [["Hel", "lo wor", "ld! more"], ["Hello ", "w", "or", "ld!"], list("Hello world!")])
def test_the_tokens_of_a_stop_string_are_not_shown(api: Client, reply: list[str]) -> None:
    api.use(FakeModel(reply))
    text, found = both(api, stop=["world!"])
    assert text == "Hello "
    assert "".join(found["tokens"]) in ("Hello ", "Hello wor")
    assert all(offset < len(text) for offset in found["text_offset"])


def test_tokens_that_show_nothing_take_no_room(api: Client) -> None:
    api.use(FakeModel(["<|im_start|>", "Pa", "<|im_start|>", "ris", "<|im_end|>"]))
    text, found = both(api)
    assert text == "Paris"
    assert [token for token in found["tokens"] if not token.startswith("<|")] == ["Pa", "ris"]
    assert found["text_offset"] == [0, 0, 2, 2]


def test_a_chat_says_them_streamed_and_whole(api: Client) -> None:
    api.use(FakeModel(["Hi ", "you", " STO", "P now"]))
    body = {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "stop": "STOP"}
    whole = api.post("/v1/chat/completions", body).json()["choices"][0]["logprobs"]["content"]
    chunks = [c["choices"][0] for c in events(api.post("/v1/chat/completions", {**body, "stream": True}).text)]
    assert [each for chunk in chunks for each in (chunk["logprobs"] or {}).get("content", [])] == whole
    assert [each["token"] for each in whole] == ["Hi ", "you", " STO"]
