"""What servers say of a prompt that is too long, and what they say of other limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from errors import InvalidInput, PromptTooLong
from loaders.remote.failures import refusal
from tests.loaders.remote.conftest import Open, ask
from tests.loaders.remote.scripted_server import ScriptedServer
from tests.loaders.remote.test_hostile_servers import STREAM, head

pytestmark = pytest.mark.usefixtures("reading")

#: Who says it; what is said; the prompt's tokens; how many would fit; whether a shorter reply would help.
NUMBERED: list[tuple[str, str, int, int, bool]] = [
    ("vLLM 0.8", "This model's maximum context length is 4096 tokens. However, you requested 5001 tokens (1000 in the "
     "messages, 4000 in the completion). Please reduce the length of the messages or completion.", 1000, 96, True),
    ("vLLM, a reply as long as the context", "This model's maximum context length is 4096 tokens. However, you "
     "requested 5000 tokens (10 in the messages, 4990 in the completion).", 10, 0, True),
    ("vLLM 0.10", "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length is "
     "16384 tokens and your request has 8000 input tokens (9000 > 16384 - 8000).", 8000, 7384, True),
    ("vLLM 0.9", "'max_tokens' is too large: 9000. This model's maximum context length is 4096 tokens and your request "
     "has 1000 input tokens (9000 > 4096 - 1000).", 1000, 0, True),
    ("vLLM, the input alone", "This model's maximum context length is 4096 tokens. However, your request has 5000 "
     "input tokens. Please reduce the length of the input messages.", 5000, 4096, False),
    ("vLLM's engine", "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure "
     "that `max_model_len` is no smaller than the number of text tokens.", 5000, 4096, False),
    ("vLLM's old engine", "The prompt (total length 5000) is too long to fit into the model (context length 4096).",
     5000, 4096, False),
    ("SGLang, both", "Requested token count exceeds the model's maximum context length of 64000 tokens. You requested "
     "a total of 71897 tokens: 7897 tokens from the input messages and 64000 tokens for the completion. Please reduce "
     "the number of tokens in the input messages or the completion to fit within the limit.", 7897, 0, True),
    ("SGLang, the input alone", "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
     61709, 40960, False),
    ("SGLang, no room for a token", "The input (512 tokens) is longer than the model's context length (512 tokens).",
     512, 511, False),
    ("SGLang's scheduler", "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens). Use a "
     "shorter input or enable --allow-auto-truncate.", 160062, 59862, False),
    ("llama-server", "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
     9412, 8192, False),
    ("TabbyAPI", "Context length 5000 is greater than max_seq_len 4096", 5000, 4096, False),
    ("TabbyAPI's prompt", "Prompt length 5000 is greater than max_seq_len 4096", 5000, 4096, False),
    ("OpenAI's completions", "This model's maximum context length is 4097 tokens, however you requested 4226 tokens "
     "(3970 in your prompt; 256 for the completion). Please reduce your prompt; or completion length.",
     3970, 3841, True),
    ("OpenAI's chat", "This model's maximum context length is 8,192 tokens. However, your messages resulted in 8,202 "
     "tokens. Please reduce the length of the messages.", 8202, 8192, False),
    ("others", "prompt is too long: 213462 tokens > 200000 maximum", 213462, 200000, False),
]  # fmt: skip

#: Sentences of which no number is certainly the prompt's.
WORDED = [
    "This model's maximum context length is 128000 tokens. However, you requested 65535 output tokens and your prompt "
    "contains at least 62466 input tokens, for a total of at least 128001 tokens",
    "This model's maximum context length is 4096 tokens. However, you requested about 5000 tokens",
    "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens (3000 in the messages, 900 "
    "in the functions, and 1100 in the completion)",
    "the request exceeds the available context size, try increasing it",
    "Your input exceeds the context window of this model",
    "The prompt is too long",
    "The context length was exceeded",
    "The input (100 tokens) is longer than the model's context length (512 tokens)",
]

#: Refusals of something else.
OTHERS = [
    "stop sequences: the size of the list exceeds 4",
    "max_tokens is too large: 9000. This model supports at most 4096 completion tokens, whereas you provided 9000",
    "prompt: the list exceeds 2048 items",
    "Requested sample logprobs of 40, which is greater than max allowed: 20",
    "logit_bias: at most 300 tokens, but the input has 500",
    "the input must be shorter than 1000 characters",
    "input: Input should be a valid string",
    "The input exceeds 4 images",
    "sequence_length must be positive",
    "n must be 1 if the context is shared",
    "model name is missing from the request",
]


def forms(said: str) -> list[Any]:
    """As an answer's object, as servers write it."""
    return [{"error": {"message": said}}, {"object": "error", "message": said, "code": 400}, {"detail": said}]


@pytest.mark.parametrize(
    ("said", "prompt", "room", "reply"), [each[1:] for each in NUMBERED], ids=[each[0] for each in NUMBERED]
)
def test_a_sentence_with_certain_numbers(said: str, prompt: int, room: int, reply: bool) -> None:
    """Formerly, the two largest numbers were taken, whatever they were."""
    for answer in forms(said):
        error = refusal("http://h", 400, json.dumps(answer).encode(), {}, False)
        assert isinstance(error, PromptTooLong)
        assert (error.told[1]["tokens"], error.told[1]["room"]) == (prompt, room)
        assert f"The prompt has {prompt:,} tokens, but " in str(error)
        assert ("equest a shorter reply" in str(error)) is reply
        assert "start the server at http://h with a larger context" in str(error)


@pytest.mark.parametrize("said", WORDED)
def test_a_sentence_without_certain_numbers_stays_as_it_is(said: str) -> None:
    for answer in forms(said):
        error = refusal("http://h", 400, json.dumps(answer).encode(), {}, False)
        assert isinstance(error, InvalidInput)
        assert not isinstance(error, PromptTooLong)
        assert str(error).startswith(f"The prompt is too long for the server at http://h: {said}. Shorten it")


@pytest.mark.parametrize("said", OTHERS)
def test_other_limits_are_not_the_prompts(said: str) -> None:
    for answer in forms(said):
        error = refusal("http://h", 400, json.dumps(answer).encode(), {}, False)
        assert str(error) == f"The server at http://h refused the request: {said}."


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"n_prompt_tokens": 900, "n_ctx": 512}, "has 900 tokens, but only 512 fit"),
        ({"n_prompt_tokens": 512, "n_ctx": 512}, "has 512 tokens, but only 511 fit"),
        ({"n_prompt_tokens": 100, "n_ctx": 512}, "at http://h: it does not work. Shorten it"),
        ({"n_prompt_tokens": "x", "n_ctx": None}, "at http://h: it does not work. Shorten it"),
        ({}, "at http://h: it does not work. Shorten it"),
    ],
)
@pytest.mark.parametrize("name", ["exceed_context_size_error", "context_length_exceeded"])
def test_what_the_kind_of_an_error_says(name: str, fields: dict[str, Any], part: str) -> None:
    for key in ("type", "code"):
        answer = {"error": {"message": "it does not work", key: name, **fields}}
        assert part in str(refusal("http://h", 400, json.dumps(answer).encode(), {}, False))


@pytest.mark.parametrize("kind", ["SGLang", "TabbyAPI", "vLLM"])
def test_it_may_be_said_in_the_stream(kind: str, connect: Open) -> None:
    said = {"error": {"message": "The input (900 tokens) is longer than the model's context length (512 tokens)."}}
    raw = head(STREAM) + f"data: {json.dumps(said)}\n\n".encode()
    with ScriptedServer(kind, raw=raw) as one, ScriptedServer(kind, raw=raw) as other:
        model = connect(one, other)
        with pytest.raises(PromptTooLong, match="900 tokens, but only 512 fit"):
            list(model.generate(ask(model)))
        assert len(one.bodies) + len(other.bodies) == 1, "it would be too long elsewhere, too"
