"""OpenAI's own client on both routes, with the demo model where the text matters."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import openai
import pytest

from loaders.remote.failures import ServerOverloaded
from tests.api.conftest import Client
from tests.fake_engine import FakeModel

USER: Any = [{"role": "user", "content": "Name a colour."}]


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_completion_has_the_shape_that_the_client_expects(real: Client) -> None:
    got = real.openai.completions.create(model="any", prompt="The sky is", max_tokens=8, temperature=0)
    assert got.object == "text_completion"
    assert got.choices[0].finish_reason == "length"
    assert got.choices[0].text
    assert got.usage.completion_tokens == 8
    assert got.usage.total_tokens == got.usage.prompt_tokens + 8
    assert got.model == real.app.models.loaded.name


def test_a_stream_says_what_the_plain_answer_says(real: Client) -> None:
    ask = {"model": "any", "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0}
    plain = real.openai.completions.create(**ask)
    chunks = list(real.openai.completions.create(**ask, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == plain.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert len(chunks) > 10, "it came in one burst"


def test_a_chat_stream_says_what_the_plain_answer_says(real: Client) -> None:
    ask: Any = {"model": "any", "messages": USER, "max_completion_tokens": 16, "temperature": 0}
    plain = real.openai.chat.completions.create(**ask)
    chunks = list(real.openai.chat.completions.create(**ask, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == plain.choices[0].finish_reason
    assert chunks[0].object == "chat.completion.chunk"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_usage_comes_in_a_chunk_of_its_own_and_only_when_asked_for(api: Client, path: str) -> None:
    body = {"prompt": "x", "messages": USER, "stream": True}
    without = events(api.post(path, body).text)
    assert all(chunk["choices"] and "usage" not in chunk for chunk in without)
    chunks = events(api.post(path, {**body, "stream_options": {"include_usage": True}}).text)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 6
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_lists_of_prompts_and_n_are_numbered_in_order(api: Client) -> None:
    api.use(FakeModel(lambda request: bytes(request.ids[1:]).decode().upper()))
    got = api.post("/v1/completions", {"prompt": ["one", "two"], "n": 2}).json()
    assert [choice["text"] for choice in got["choices"]] == ["ONE", "ONE", "TWO", "TWO"]
    assert [choice["index"] for choice in got["choices"]] == [0, 1, 2, 3]
    assert got["usage"]["prompt_tokens"] == 8


def test_token_ids_are_a_prompt_and_never_their_digits(api: Client) -> None:
    model = api.use(FakeModel())
    assert api.post("/v1/completions", {"prompt": [72, 105]}).status_code == 200
    assert model.prompt == "Hi"
    assert len(api.post("/v1/completions", {"prompt": [[72], [105]]}).json()["choices"]) == 2


def test_best_of_keeps_the_likeliest(real: Client) -> None:
    body = {"prompt": "The capital of France is", "max_tokens": 6, "seed": 3, "logprobs": 0, "top_k": 3}
    likeliest, kept = set(), set()
    for _ in range(3):  # in one context with others, the last bits of the numbers depend on those, and so may a token
        every = real.post("/v1/completions", {**body, "n": 4}).json()["choices"]
        best = real.post("/v1/completions", {**body, "n": 1, "best_of": 4}).json()["choices"]
        means = [float(np.mean(choice["logprobs"]["token_logprobs"])) for choice in every]
        assert len(best) == 1
        likeliest.add(every[int(np.argmax(means))]["text"])
        kept.add(best[0]["text"])
    assert likeliest & kept
    assert real.post("/v1/completions", {**body, "best_of": 2, "stream": True}).status_code == 400


def test_echo_scores_the_prompt(real: Client) -> None:
    prompt = "The capital of France is Paris"
    got = real.post(
        "/v1/completions", {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
    ).json()["choices"][0]
    found = got["logprobs"]
    assert got["text"].startswith(prompt)
    assert "".join(found["tokens"]) == got["text"]
    assert found["token_logprobs"][0] is None
    assert all(value <= 0 and math.isfinite(value) for value in found["token_logprobs"][1:])
    assert len({len(found[key]) for key in found}) == 1
    none = real.post("/v1/completions", {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0}).json()
    assert none["choices"][0]["text"] == prompt
    assert none["choices"][0]["logprobs"]["tokens"] == found["tokens"][:-1]


def test_logprobs_are_finite_and_the_chosen_token_is_among_them(real: Client) -> None:
    body = {"prompt": "One, two,", "max_tokens": 6, "logprobs": 3, "temperature": 0}
    got = real.post("/v1/completions", body).json()["choices"][0]
    found = got["logprobs"]
    assert "".join(found["tokens"]) == got["text"]
    for token, value, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert top[token] == value == max(top.values())
    streamed = events(real.post("/v1/completions", {**body, "stream": True}).text)
    tokens = [token for chunk in streamed for token in (chunk["choices"][0]["logprobs"] or {}).get("tokens", [])]
    assert tokens == found["tokens"]


def test_chat_logprobs_have_bytes(real: Client) -> None:
    got = real.openai.chat.completions.create(
        model="x", messages=USER, max_tokens=4, logprobs=True, top_logprobs=2, temperature=0
    )
    entries = got.choices[0].logprobs.content
    assert len(entries) == 4
    assert all(bytes(entry.bytes).decode() == entry.token for entry in entries)
    assert all(len(entry.top_logprobs) == 2 for entry in entries)


def test_a_seed_repeats_and_a_bias_bans(real: Client) -> None:
    body = {"prompt": "The best fruit is", "max_tokens": 8, "seed": 7, "temperature": 1}
    first = real.post("/v1/completions", body).json()["choices"][0]["text"]
    assert real.post("/v1/completions", body).json()["choices"][0]["text"] == first
    tokens = real.post("/v1/internal/encode", {"text": first}).json()["tokens"]
    bias = {str(tokens[0]): -100}
    other = real.post("/v1/completions", {**body, "logit_bias": bias}).json()["choices"][0]["text"]
    assert tokens[0] not in real.post("/v1/internal/encode", {"text": other}).json()["tokens"]


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "dog"]},
        "legs": {"$ref": "#/$defs/legs"},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "kind", "legs", "tags"],
    "additionalProperties": False,
    "$defs": {"legs": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_json_schema_is_kept(real: Client, stream: bool) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": SCHEMA}}
    body = {"messages": USER, "response_format": form, "max_tokens": 200, "temperature": 0, "stream": stream}
    if stream:
        chunks = events(real.post("/v1/chat/completions", body).text)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    else:
        text = real.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    pet = json.loads(text)
    assert set(pet) == {"name", "kind", "legs", "tags"}
    assert pet["kind"] in ("cat", "dog")
    assert len(pet["name"]) <= 12
    assert 1 <= len(pet["tags"]) <= 2


def test_a_json_object_is_one(real: Client) -> None:
    body = {"messages": USER, "response_format": {"type": "json_object"}, "max_tokens": 1, "temperature": 0}
    got = real.post("/v1/chat/completions", body).json()
    assert got["choices"][0]["message"]["content"].startswith("{")


def test_a_forced_tool_is_called(real: Client) -> None:
    tool: Any = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a town",
            "parameters": {"type": "object", "properties": {"town": {"enum": ["Rome", "Oslo"]}}, "required": ["town"]},
        },
    }
    ask: Any = {"model": "x", "messages": USER, "tools": [tool], "temperature": 0, "max_tokens": 80}
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    got = real.openai.chat.completions.create(**ask, tool_choice=choice).choices[0]
    assert got.finish_reason == "tool_calls"
    assert got.message.content is None
    assert json.loads(got.message.tool_calls[0].function.arguments)["town"] in ("Rome", "Oslo")
    chunks = list(real.openai.chat.completions.create(**ask, tool_choice="required", stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name) for call in calls] == [(0, "weather")]
    assert calls[0].id
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_a_thought_is_apart_in_both_modes(api: Client) -> None:
    api.use(FakeModel("<think>\nHm. A < B.\n</think>\n\nParis."))
    plain = api.post("/v1/chat/completions", {"messages": USER}).json()["choices"][0]["message"]
    assert plain == {"role": "assistant", "content": "Paris.", "reasoning_content": "Hm. A < B."}
    deltas = [
        chunk["choices"][0]["delta"]
        for chunk in events(api.post("/v1/chat/completions", {"messages": USER, "stream": True}).text)
    ]
    assert "".join(delta.get("content", "") for delta in deltas) == "Paris."
    assert "".join(delta.get("reasoning_content", "") for delta in deltas).strip() == "Hm. A < B."


def test_whole_characters_only(api: Client) -> None:
    api.use(FakeModel([b"\xf0\x9f", b"\x98\x80", "é".encode()[:1], "é".encode()[1:]]))
    chunks = events(api.post("/v1/completions", {"prompt": "x", "stream": True, "logprobs": 1}).text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "😀é"
    assert "\ufffd" not in json.dumps(chunks, ensure_ascii=False)


def test_a_stop_string_ends_the_text_before_it(api: Client) -> None:
    api.use(FakeModel(["Hel", "lo wor", "ld! more"]))
    for stop in ("world!", ["world!"], ["", "nothing", *map(str, range(10)), "world!"]):
        got = api.post("/v1/completions", {"prompt": "x", "stop": stop, "logprobs": 1}).json()["choices"][0]
        assert got["text"] == "Hello "
        assert got["finish_reason"] == "stop"


def test_models_are_listed_and_found_by_any_spelling(api: Client) -> None:
    listed = list(api.openai.models.list())
    assert [model.id for model in listed] == ["fake"]
    assert api.openai.models.retrieve("fake").id == "fake"
    with pytest.raises(openai.NotFoundError):
        api.openai.models.retrieve("a/b.gguf")
    api.use(None)
    assert list(api.openai.models.list()) == []
    assert api.get("/v1/internal/model/info").json()["model_name"] == "None"


def test_embeddings_are_vectors_of_length_one(real: Client) -> None:
    got = real.openai.embeddings.create(model="x", input=["a cat", "a kitten", "tax law"])
    vectors = [np.array(entry.embedding) for entry in got.data]
    assert [entry.index for entry in got.data] == [0, 1, 2]
    assert all(abs(float(np.linalg.norm(vector)) - 1) < 1e-4 for vector in vectors)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    plain = real.openai.embeddings.create(model="x", input="a cat", encoding_format="float")
    assert np.allclose(plain.data[0].embedding, vectors[0], atol=1e-3)
    assert got.usage.prompt_tokens > 0


def test_moderation_says_that_nothing_was_judged(api: Client) -> None:
    got = api.openai.moderations.create(input=["x", "y"])
    assert [result.flagged for result in got.results] == [False, False]
    assert "nothing was checked" in str(api.post("/v1/moderations", {"input": "x"}).json()["warnings"])


def test_errors_are_the_client_s_own_classes(api: Client) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        api.openai.completions.create(model="x", prompt="x", temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        api.openai.responses.create(model="x", input="x")
    api.use(None)
    with pytest.raises(openai.InternalServerError) as none:
        api.openai.completions.create(model="x", prompt="x")
    assert none.value.status_code == 503
    assert "model/load" in none.value.message


def test_more_tokens_than_fit_are_cut_with_a_warning_and_a_long_prompt_is_refused(api: Client) -> None:
    model = api.use(FakeModel(context_length=50))
    model.larger_context = "ask the server"
    got = api.post("/v1/completions", {"prompt": "x" * 20, "max_tokens": 10_000}).json()
    assert model.requests[-1].max_tokens == 29
    assert "29" in got["warnings"][0]
    refused = api.post("/v1/completions", {"prompt": "x" * 60})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "61" in refused.json()["error"]["message"]
    assert "49" in refused.json()["error"]["message"]
    assert refused.json()["error"]["message"].endswith("or ask the server.")


def test_a_slash_at_the_end_of_an_address_means_nothing(api: Client) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    assert api.post("/v1/chat/completions/", body).status_code == 200
    assert api.get("/v1/models/").status_code == 200
    assert api.get("/v1/nothing/").status_code == 404


def _full(_: object = None) -> Any:
    raise ServerOverloaded("http://elsewhere", "queue full", 7)


class FullLater(FakeModel):
    """It refuses when the first token is asked for, as a server does that has been sent the request."""

    def _tokens(self, *_: object) -> Any:
        return map(_full, "x")


@pytest.mark.parametrize("model", [FakeModel(_full), FullLater()])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [{"prompt": "Hello"}, {"messages": USER}])
def test_a_server_that_is_full_says_when_to_come_back(
    model: FakeModel, stream: bool, body: dict[str, Any], api: Client
) -> None:
    api.use(model)
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    refused = api.post(path, {**body, "stream": stream})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert "in 7 seconds" in refused.json()["error"]["message"]
    with pytest.raises(openai.RateLimitError):
        api.openai.completions.create(model="any", prompt="Hello")
