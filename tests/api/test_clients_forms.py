"""Clients' own forms of requests and the responses to them: fields of messages, forced calls, legacy calls."""

from __future__ import annotations

from typing import Any

import pytest

from modules.chat.prompt.tool_grammar import tool_call_grammar
from modules.families.reply_format import ReplyFormat
from modules.families.table import GENERAL
from tests.api.conftest import Client
from tests.api.test_families import CHATML, TOOL, USER
from tests.fake_engine import FakeModel

CHAT = "/v1/chat/completions"
NAMED = "{% for m in messages %}{{m.name}}: {{m.content}}{% endfor %}"
TOOLS = {"get_weather": TOOL["function"]["parameters"]}


def test_a_thought_that_is_open_is_closed_before_a_forced_call() -> None:
    grammar = tool_call_grammar("required", [TOOL], ReplyFormat(GENERAL, "<think>\n", "", TOOLS), [])
    assert grammar.startswith(r'root ::= "\n</think>\n\n" "<tool_call>\n')
    assert '"<tool_call>' in tool_call_grammar("required", [TOOL], ReplyFormat(GENERAL, "", "", TOOLS), [])


def test_the_sdk_forces_a_call_in_the_familys_form(api: Client) -> None:
    model = api.use(FakeModel('[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo"}}]'))
    template = CHATML + "{# [INST] tools #}"
    answer = api.openai.chat.completions.create(
        model="x",
        messages=USER,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        extra_body={"instruction_template_str": template},
    )
    assert model.requests[-1].params.grammar_string.startswith('root ::= "[TOOL_CALLS]')
    call = answer.choices[0].message.tool_calls
    assert call
    assert call[0].function.name == "get_weather"  # type: ignore[union-attr]
    assert answer.usage
    assert answer.usage.prompt_tokens_details


@pytest.mark.parametrize("streamed", [False, True])
def test_the_sdk_gets_one_call_where_it_wants_no_more(api: Client, streamed: bool) -> None:
    one = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    api.use(FakeModel(one + "\n" + one))
    how: Any = {"model": "x", "messages": USER, "tools": [TOOL], "extra_body": {"instruction_template_str": CHATML}}
    for parallel, count in ((True, 2), (False, 1)):
        if streamed:
            with api.openai.chat.completions.stream(**how, parallel_tool_calls=parallel) as stream:
                message: Any = stream.get_final_completion().choices[0].message
        else:
            message = api.openai.chat.completions.create(**how, parallel_tool_calls=parallel).choices[0].message
        assert len(message.tool_calls) == count


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("choice", ["auto", {"name": "get_weather"}])
def test_the_sdk_calls_as_it_did_before_tools(api: Client, streamed: bool, choice: Any) -> None:
    one = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    model = api.use(FakeModel(one + one))
    how: Any = {"model": "x", "messages": USER, "functions": [TOOL["function"]], "function_call": choice}
    how["extra_body"] = {"instruction_template_str": CHATML}
    if streamed:
        chunks = list(api.openai.chat.completions.create(**how, stream=True))
        deltas = [each.choices[0].delta for each in chunks]
        calls: list[Any] = [delta.function_call for delta in deltas if delta.function_call]
        reason = chunks[-1].choices[0].finish_reason
        assert not any(delta.tool_calls for delta in deltas)
    else:
        choices = api.openai.chat.completions.create(**how).choices
        calls, reason = [choices[0].message.function_call], choices[0].finish_reason
        assert choices[0].message.tool_calls is None
        assert choices[0].message.content is None
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", '{"city": "Oslo"}')]
    assert reason == "function_call"
    assert bool(model.requests[-1].params.grammar_string) == (choice != "auto")


def prompt(api: Client, messages: Any, **more: Any) -> tuple[str, str]:
    got = api.post("/v1/internal/chat-prompt", {"messages": messages, **more}).json()
    return got["prompt"], " ".join(got.get("warnings", []))


def test_calls_of_the_time_before_tools_reach_the_prompt(api: Client) -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    text, said = prompt(api, [*USER, call, {"role": "function", "name": "f", "content": "RESULT"}])
    assert '"a": 1' in text
    assert "RESULT" in text
    assert "has no effect" not in said


def test_fields_of_a_message_reach_a_template_that_asks_or_are_named(api: Client) -> None:
    message = [{"role": "user", "content": "Hi", "name": "Bob", "mood": "glad", "weight": None}]
    text, said = prompt(api, message, instruction_template_str=NAMED)
    assert text.startswith("Bob: Hi")
    assert said == "messages.0.mood has no effect: the template does not use it."
    _, said = prompt(api, message, mode="chat")
    assert "messages.0.name" in said


@pytest.mark.parametrize(
    ("content", "param", "words"),
    [
        (5, "messages.0.content", "a string or a list"), ([{"type": "text"}], "messages.0.content", "has no text"),
        ([{"type": "audio_url"}], "messages.0", "only accepts text"),
        ([{"type": "wobble"}], "messages.0.content", "unknown"),
    ],
)  # fmt: skip
def test_an_error_names_its_place(api: Client, content: Any, param: str, words: str) -> None:
    got = api.post(CHAT, {"messages": [{"role": "user", "content": content}]})
    assert got.status_code == 400
    assert got.json()["error"]["param"] == param
    assert words in got.json()["error"]["message"]
    assert api.post(CHAT, {"messages": [{"role": "user", "content": "x", "images": ["y"]}]}).status_code == 400


@pytest.mark.parametrize(
    ("body", "budget"),
    [
        ({"thinking_budget": 3}, 3), ({"thinking_budget_tokens": 3}, 3), ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 3}}, 3),
    ],
)  # fmt: skip
def test_a_budget_by_any_name(api: Client, body: Any, budget: int | None) -> None:
    model = api.use(FakeModel("Hi."))
    opens = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif") + "{# enable_thinking #}"
    assert api.post(CHAT, {"messages": USER, "instruction_template_str": opens, **body}).status_code == 200
    assert model.requests[-1].processors[-1]._budget == budget


def test_stop_token_ids_and_bad_words_are_honoured(api: Client) -> None:
    api.use(FakeModel("One<|im_end|>two"))
    got = api.post(CHAT, {"messages": USER, "stop_token_ids": [259, 65], "bad_words": ["A"]}).json()
    assert got["choices"][0]["message"]["content"] == "One"
    assert "65 is not a control token" in " ".join(got["warnings"])


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/chat/completions", "/v1/chat/completions"), ("POST", "/v1/v1/completions", "/v1/completions"),
        ("GET", "/models", "/v1/models"), ("GET", "/v1/queue", "/v1/internal/queue"),
    ],
)  # fmt: skip
def test_a_wrong_address_tells_the_right_one(api: Client, method: str, path: str, meant: str) -> None:
    got = api.http.request(method, path)
    assert got.status_code == 404
    assert f"Did you mean {meant}?" in got.json()["error"]["message"]


def test_the_description_tells_of_errors_keys_and_streams(api: Client) -> None:
    schema = api.get("/openapi.json").json()
    chat = schema["paths"][CHAT]["post"]
    assert {"400", "401", "404", "429", "503"} <= chat["responses"].keys()
    assert "422" not in chat["responses"]
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    assert schema["components"]["securitySchemes"]
    assert {"type": "string"} in schema["components"]["schemas"]["ChatRequest"]["properties"]["stop"]["anyOf"]
    assert api.http.head("/v1/models").status_code == 200
    assert api.get("/v1/models/").json()["data"][0]["max_model_len"]
