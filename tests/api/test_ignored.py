"""Nothing is ignored silently: what has no effect causes a warning, or an error if other servers return one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.conftest import Client
from tests.fake_engine import FakeModel

USER: Any = [{"role": "user", "content": "Hi"}]
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
KNOWS = "{% if enable_thinking %}{{ colour }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"


def warnings(api: Client, path: str, **body: Any) -> str:
    got = api.post(path, body)
    assert got.status_code == 200, got.text
    return " ".join(got.json().get("warnings", []))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("character", "Assistant"), ("context", "x"), ("greeting", "x"), ("name2", "x"), ("bot_name", "x"),
        ("user_bio", "x"),
        ("chat_instruct_command", "x"), ("chat_template_str", "x"), ("top_logprobs", 2), ("enable_thinking", True),
        ("reasoning_effort", "low"), ("chat_template_kwargs", {"colour": 1}),
    ],
)  # fmt: skip
def test_a_field_without_effect_on_a_chat(api: Client, field: str, value: Any) -> None:
    said = warnings(api, "/v1/chat/completions", messages=USER, **{field: value})
    assert (next(iter(value)) if isinstance(value, dict) else field) + " has no effect" in said


def test_what_has_an_effect_is_not_warned_of(api: Client) -> None:
    values: Any = {
        "enable_thinking": True,
        "chat_template_kwargs": {"colour": "red"},
        "instruction_template_str": KNOWS,
    }
    assert not warnings(api, "/v1/chat/completions", messages=USER, mode="instruct", character="", **values)
    chat: Any = {"mode": "chat", "character": "Assistant", "context": "x", "name2": "Bo", "logprobs": True}
    assert not warnings(api, "/v1/chat/completions", messages=USER, top_logprobs=1, **chat)
    assert not warnings(api, "/v1/internal/logits", prompt="x", use_samplers=True, top_k=1)
    assert not warnings(api, "/v1/chat/completions", messages=USER, tools=[TOOL])


def test_the_chat_modes_know_no_tools_and_no_values(api: Client) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [*USER, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "42"}]
    said = warnings(api, "/v1/chat/completions", messages=[*messages, *USER], mode="chat", enable_thinking=True)
    assert "results were left out" in said
    assert "enable_thinking has no effect in chat mode" in said
    for mode in ("chat", "chat-instruct"):
        assert api.post("/v1/chat/completions", {"messages": USER, "mode": mode, "continue_": True}).status_code == 400


def test_the_logits_have_their_fields_and_no_others(api: Client) -> None:
    api.use(FakeModel(logits={65: 9.0}))
    assert api.post("/v1/internal/logits", {"prompt": "x", "preset": "nope"}).status_code == 404
    said = warnings(
        api, "/v1/internal/logits", prompt="x", logit_bias={"65": -100}, banned_strings=["A"], wobble=1, stop="x",
        response_format={"type": "json_object"},
    )  # fmt: skip
    for name in ("logit_bias", "banned_strings", "wobble", "stop", "response_format"):
        assert re.search(rf"\b{name} (has no effect|was ignored)", said)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("internal/encode", {"text": "x"}), ("internal/decode", {"tokens": [72]}), ("moderations", {"input": "x"}),
        ("internal/token-count", {"text": "x"}), ("internal/chat-prompt", {"messages": USER}),
        ("internal/lora/load", {"lora_names": []}),
    ],
)  # fmt: skip
def test_a_field_that_is_none(api: Client, path: str, body: Any) -> None:
    assert "Unknown field wobble was ignored" in warnings(api, f"/v1/{path}", **body, wobble=1)


def test_embeddings_have_no_knobs(real: Client) -> None:
    assert "Unknown field temperature was ignored" in warnings(real, "/v1/embeddings", input="x", temperature=1)


def test_a_suffix_goes_with_a_text(api: Client) -> None:
    assert "suffix has no effect" in warnings(api, "/v1/completions", prompt=[72], suffix="x")


def test_a_least_length_ends_where_the_grammar_does(api: Client) -> None:
    assert "as long as the grammar" in warnings(
        api, "/v1/completions", prompt="x", min_tokens=5, grammar_string='root ::= "a"'
    )
    assert warnings(api, "/v1/completions", prompt="x", min_tokens=5) == ""


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
@pytest.mark.parametrize("form", [{"response_format": {"type": "json_object"}}, {"grammar_string": 'root ::= "a"'}])
def test_a_call_and_a_form_exclude_each_other(api: Client, choice: Any, form: Any) -> None:
    got = api.post("/v1/chat/completions", {"messages": USER, "tools": [TOOL], "tool_choice": choice, **form})
    assert got.status_code == 400
    assert "tool_choice" in got.json()["error"]["message"]


def test_a_reply_of_a_chosen_form_is_no_call(api: Client) -> None:
    api.use(FakeModel('{"name": "f", "arguments": {}}'))
    body = {"messages": USER, "tools": [TOOL]}
    assert api.post("/v1/chat/completions", body).json()["choices"][0]["finish_reason"] == "tool_calls"
    formed = {**body, "response_format": {"type": "json_object"}}
    choice = api.post("/v1/chat/completions", formed).json()["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": '{"name": "f", "arguments": {}}'}
    api.use(FakeModel('{"name": "Ada", "age": 36}'))
    assert "36" in api.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
