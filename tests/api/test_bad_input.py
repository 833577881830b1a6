"""Invalid input is answered with OpenAI's error object and a sentence, never with a 5xx."""

from __future__ import annotations

import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from errors import TemplateFailed
from modules.api.request_models import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    LogitsFields,
    LorasBody,
    TokensBody,
)
from modules.api.serve import build_api
from tests.api.conftest import Client
from tests.fake_engine import FakeModel

GENERATE = ("/v1/completions", "/v1/chat/completions")
USER = [{"role": "user", "content": "Hi"}]
#: It opens the reply by itself, and what has begun is put behind that.
OPENS = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}[x]{% endif %}"


@pytest.mark.parametrize("path", [*GENERATE, "/v1/embeddings", "/v1/internal/encode", "/v1/internal/logits"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 50_000, b'{"prompt":' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_no_object(api: Client, path: str, body: bytes) -> None:
    got = api.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert got.status_code == 400, got.text
    assert set(got.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1), ("top_p", 5), ("max_tokens", -2), ("max_tokens", "many"), ("n", 0), ("n", 1000),
        ("logit_bias", {"x": 1}), ("logit_bias", [1]), ("seed", "abc"), ("stop", 5), ("temperature", float("nan")),
        ("response_format", {"type": "xml"}), ("response_format", {"type": "json_schema"}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"type": "thing"}}}),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nowhere"}}}),
        ("preset", "no such preset"), ("custom_token_bans", "a,b"), ("stream", "perhaps"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", GENERATE)
def test_a_field_that_makes_no_sense(api: Client, path: str, field: str, value: Any) -> None:
    body = json.dumps({"prompt": "x", "messages": USER, field: value})
    got = api.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert got.status_code in (400, 404), got.text
    assert got.json()["error"]["message"]


def test_the_place_in_a_schema_is_named(api: Client) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "thing"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    got = api.post("/v1/completions", {"prompt": "x", "response_format": form})
    assert "#/properties/age" in got.json()["error"]["message"]


@pytest.mark.parametrize(
    "messages",
    [
        [], None, "x", [1], [{}], [{"role": "user"}], [{"role": "king", "content": "x"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        [{"role": "user", "content": [{"type": "wobble"}]}], [{"role": "user", "content": "\ud800"}],
    ],
)  # fmt: skip
def test_messages_that_make_no_sense(api: Client, messages: Any) -> None:
    content = json.dumps({"messages": messages})
    got = api.http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert "message" in got.json()["error"]["message"], got.text
    assert got.status_code == 400, got.text


def test_messages_of_all_kinds_are_understood(api: Client) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "developer", "content": "Be kind.", "name": "x"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "user", "content": "And?"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    model = api.use(FakeModel())
    assert api.post("/v1/chat/completions", {"messages": messages, "tools": tools}).status_code == 200
    assert "Be kind." in model.prompt
    assert "42" in model.prompt


def test_a_trailing_assistant_message_is_gone_on_with(api: Client) -> None:
    model = api.use(FakeModel())
    api.post("/v1/chat/completions", {"messages": [*USER, {"role": "assistant", "content": "The answer is"}]})
    assert model.prompt.endswith("The answer is")
    assert api.post("/v1/chat/completions", {"messages": USER, "continue_": True}).status_code == 400


@pytest.mark.parametrize("template", ["{{ messages[-1].content }}", OPENS])
def test_a_thought_that_has_begun_goes_on_as_one(api: Client, template: str) -> None:
    api.use(FakeModel(" more.\n</think>\n\nParis."))
    messages = [*USER, {"role": "assistant", "content": "<think>\nI wonder"}]
    body = {"messages": messages, "instruction_template_str": template}
    message = api.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Paris.", "reasoning_content": "more."}


def test_modes_and_characters_make_the_prompt(api: Client) -> None:
    model = api.use(FakeModel())
    body = {"messages": USER, "mode": "chat", "character": "Assistant", "user_name": "Ada", "name2": "Bot"}
    more = {"context": "{{char}} helps {{user}}.", "user_bio": "{{user}} climbs."}
    assert "Ada climbs.\n\n" in api.post("/v1/internal/chat-prompt", {**body, **more}).json()["prompt"]
    got = api.post("/v1/chat/completions", {**body, "context": "{{char}} helps {{user}}."})
    assert got.status_code == 200
    assert "Bot helps Ada." in model.prompt
    assert "Ada: Hi" in model.prompt
    assert api.post("/v1/internal/chat-prompt", body).json()["prompt"].endswith("Bot:")


def test_a_template_that_raises(api: Client) -> None:
    for template in ("{{ raise_exception('no') }}", "{{ 1/0 }}", "{% if %}"):
        got = api.post("/v1/chat/completions", {"messages": USER, "instruction_template_str": template})
        assert got.status_code == 400
        assert "template" in got.json()["error"]["message"]


def test_old_function_calling_that_is_wrong_is_refused(api: Client) -> None:
    for wrong in (
        {"function_call": "auto"},
        {"functions": [], "tools": [{"type": "function", "function": {"name": "f"}}]},
        {"functions": [{"name": "f"}], "function_call": "f"},
        {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
        {"functions": [{}]},
        {"functions": "f"},
    ):
        assert api.post("/v1/chat/completions", {"messages": USER, **wrong}).status_code == 400


def test_unknown_paths_and_methods(api: Client) -> None:
    assert api.get("/v1/nothing").json()["error"]["message"]
    assert api.get("/v1/nothing").status_code == 404
    assert api.get("/v1/completions").status_code == 405


def test_no_model_is_loaded(api: Client) -> None:
    api.use(None)
    for path, body in (
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/completions", {"prompt": "x", "stream": True}),
        ("/v1/chat/completions", {"messages": USER}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/internal/encode", {"text": "x"}),
    ):
        got = api.post(path, body)
        assert got.status_code == 503
        assert "No model is loaded" in got.json()["error"]["message"]


def test_internal_routes_answer_in_their_forms(api: Client) -> None:
    ids = api.post("/v1/internal/encode", {"text": "né😀"}).json()["tokens"]
    assert api.post("/v1/internal/decode", {"tokens": ids}).json() == {"text": "né😀"}
    assert api.post("/v1/internal/token-count", {"text": "abc"}).json() == {"length": 3}
    assert api.post("/v1/internal/decode", {"tokens": [-1]}).status_code == 400
    api.use(FakeModel(logits={65: 9.0, 66: 8.0}))
    got = api.post("/v1/internal/logits", {"prompt": "x", "top_logits": 2}).json()["logits"]
    assert list(got) == ["A", "B"]
    only = api.post("/v1/internal/logits", {"prompt": "x", "use_samplers": True, "top_k": 1}).json()["logits"]
    assert only == {"A": 1.0}


TOOL: Any = {"type": "function", "function": {"name": "f"}}


def tool(**function: Any) -> Any:
    return {"type": "function", "function": {**TOOL["function"], **function}}


def halved(name: str) -> Any:
    return {"type": "json_schema", "json_schema": {"schema": {"properties": {name: {"const": "\ud800"}}}}}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("chat/completions", {"tools": [TOOL], "tool_choice": {"function": "x"}}, 400),
        ("chat/completions", {"tools": [TOOL], "tool_choice": {"function": None}}, 400),
        ("chat/completions", {"tools": [tool(parameters=[1])], "tool_choice": "required"}, 400),
        ("chat/completions", {"tools": [tool(parameters="x")], "tool_choice": "required"}, 400),
        ("chat/completions", {"tools": [tool(parameters=5)]}, 400),
        ("chat/completions", {"tools": [tool(name="\ud800")], "tool_choice": "required"}, 400),
        ("chat/completions", {"tools": [TOOL, tool(name="")]}, 400),
        ("chat/completions", {"tools": [tool(name=" ")], "tool_choice": "required"}, 400),
        ("chat/completions", {"functions": [{"name": ""}]}, 400),
        ("chat/completions", {"messages": [*USER, {"role": "assistant", "tool_calls": [tool(name="")]}]}, 400),
        ("chat/completions", {"chat_template_kwargs": {"name": 1, "template": 1, "messages": 1, "self": 1}}, 200),
        ("chat/completions", {"chat_template_kwargs": {"\ud800": 1}}, 200),
        ("chat/completions", {"response_format": halved("a")}, 400),
        ("chat/completions", {"response_format": halved("\ud800")}, 400),
        ("completions", {"prompt": "x", "grammar_string": 'root ::= "\ud800"'}, 400),
        ("completions", {"prompt": "x", "\ud800": 1}, 400),
        ("completions", {"prompt": [True, False]}, 400),
        ("embeddings", {"input": [[True]]}, 400),
        ("internal/decode", {"tokens": [True]}, 400),
        ("internal/model/load", {"model_name": "x", "args": {"loader": 5}}, 400),
    ],
)
def test_odd_input_is_answered(api: Client, path: str, body: Any, status: int) -> None:
    content = json.dumps({**({"messages": USER} if path.startswith("chat") else {}), **body})
    got = api.http.post(f"/v1/{path}", content=content, headers={"Content-Type": "application/json"})
    assert got.status_code == status, got.text
    assert got.content.isascii()


def test_half_a_character_in_the_arguments_of_a_call(api: Client) -> None:
    for arguments in ('{"a": "\\ud83d"}', '"{\\"a\\": \\"\\ud83d\\"}"'):
        api.use(FakeModel('<tool_call>{"name": "f", "arguments": ' + arguments + "}</tool_call>"))
        got = api.post("/v1/chat/completions", {"messages": USER, "tools": [TOOL]})
        assert got.status_code == 200
        call = got.json()["choices"][0]["message"]["tool_calls"][0]["function"]
        assert json.loads(call["arguments"]) == {"a": "\ud83d"}


@pytest.mark.parametrize(
    "value", [[1.5] * 1000, ["x"] * 1000, [[1.5]] * 1000, [[1.5] * 1000], [True] * 1000, [1] * 1000]
)
def test_a_long_list_is_told_of_once(value: Any) -> None:
    """An error for each element would block the event loop for seconds."""
    models = (CompletionRequest, ChatRequest, LogitsFields, EmbeddingsRequest, TokensBody, LorasBody)
    for model in models:
        for name in model.model_fields:
            for given in (value, {str(key): each for key, each in enumerate(value)}):
                try:
                    model.model_validate({name: given})
                except ValidationError as error:
                    assert error.error_count() < 12, (model, name)


def test_many_names_that_are_no_text_are_told_of_once(api: Client) -> None:
    content = json.dumps({"prompt": "x", **{f"\ud800{number}": 1 for number in range(1000)}})
    got = api.http.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
    assert got.status_code == 400
    assert "lone surrogate" in got.json()["error"]["message"]


def test_what_was_sent_is_not_written_out(api: Client) -> None:
    got = api.post("/v1/completions", {"prompt": [1.5] * 1000})
    assert got.status_code == 400
    assert len(got.text) < 1000


# --- by the thousand ---

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 10**9, -(10**30), 0.5, 1e308, float("inf"), float("nan"), "", "x", "\ud83d",
    "1,2", "[", "😀" * 50, [], [1], ["x"], [[1]], [None], {}, {"x": 1}, {"5": -100}, {"type": "json_object"},
    "none", {"type": "json_schema", "json_schema": {"schema": {"anyOf": [{}, True, {"enum": [1]}]}}},
)  # fmt: skip


def test_fuzzed_bodies_never_break_it(api: Client) -> None:
    """By default a part of them; FUZZ=10000 sends 10,000."""
    api.use(FakeModel("ok", context_length=2000))
    schemas = build_api(api.app).openapi()["components"]["schemas"]
    chance = random.Random(5)
    paths = {
        "/v1/completions": "CompletionRequest", "/v1/chat/completions": "ChatRequest",
        "/v1/embeddings": "EmbeddingsRequest", "/v1/internal/logits": "LogitsRequest",
        "/v1/internal/encode": "TextBody", "/v1/internal/decode": "TokensBody", "/v1/moderations": "ModerationsRequest",
        "/v1/internal/chat-prompt": "ChatRequest",
    }  # fmt: skip
    for _ in range(int(os.environ.get("FUZZ", "600"))):
        path = chance.choice(list(paths))
        fields = [*schemas[paths[path]]["properties"], "wobble"]
        body: dict[str, Any] = {"prompt": "x", "messages": USER, "input": "x", "text": "x", "tokens": [1]}
        body.update({chance.choice(fields): chance.choice(_VALUES) for _ in range(chance.randrange(1, 5))})
        if isinstance(body.get("messages"), list) and chance.random() < 0.3:
            body["messages"] = [{"role": "user", "content": chance.choice(_VALUES), "x": chance.choice(_VALUES)}]
        got = api.http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert got.status_code < 500, (path, body, got.text)


def test_slow_templates_keep_nobody_else_waiting(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than threads for short work; queued ones are dropped when their clients disconnect."""
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    body = {"messages": USER, "instruction_template_str": endless}
    begun, go_on = threading.Event(), threading.Event()

    def slow(name: str, source: str, values: Any) -> str:
        assert source == endless
        begun.set()
        assert go_on.wait(60)
        raise TemplateFailed(name, "it was slow")

    monkeypatch.setattr(api.app.templates._processes, "render", slow)
    with ThreadPoolExecutor(40) as pool:
        try:
            slow_ones = [pool.submit(api.post, "/v1/chat/completions", body) for _ in range(18)]
            slow_ones += [pool.submit(api.post, "/v1/internal/chat-prompt", body) for _ in range(2)]
            assert begun.wait(60)
            with pytest.raises(httpx.ReadTimeout):
                api.post("/v1/chat/completions", body, timeout=0.5)
            assert api.get("/health").status_code == 200
            assert api.post("/v1/internal/token-count", {"text": "Hi"}).json()["length"]
            assert api.post("/v1/completions", {"prompt": "Hi"}).status_code == 200
            assert api.post("/v1/chat/completions", {"messages": USER}).status_code == 200
        finally:
            go_on.set()
        assert {each.result().status_code for each in slow_ones} == {400}


def test_a_template_without_end_is_one_sentence(api: Client) -> None:
    body = {"messages": USER, "instruction_template_str": "{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2}
    got = api.post("/v1/chat/completions", body)
    assert got.status_code == 400
    assert "more than 1,000,000 steps" in got.json()["error"]["message"]
    kwargs = {"messages": USER, "mode": "chat", "chat_template_str": body["instruction_template_str"]}
    assert api.post("/v1/internal/chat-prompt", kwargs).status_code == 400
