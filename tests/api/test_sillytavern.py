"""Recorded requests of SillyTavern 1.19: status, tokens, generation, abort, CFG, bans, grammar."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from tests.api.conftest import Client
from tests.api.test_openai import events
from tests.fake_engine import FakeModel

#: One generation of type oobabooga with token probabilities, default settings (shared/SILLYTAVERN.md, 2.3).
GENERATE: dict[str, Any] = {
    "prompt": "You are a poet.\nUser: Hello\nBot:", "max_new_tokens": 200, "max_tokens": 200, "n_predict": 200,
    "num_predict": 200, "num_ctx": 8192, "truncation_length": 8192, "logprobs": 10, "n_probs": 10,
    "temperature": 0.7, "top_p": 0.5, "typical_p": 1, "typical": 1, "min_p": 0, "top_k": 40, "top_a": 0, "tfs": 1,
    "epsilon_cutoff": 0, "eta_cutoff": 0, "repetition_penalty": 1.2, "rep_pen": 1.2, "repeat_penalty": 1.2,
    "repetition_penalty_range": 0, "rep_pen_range": 0, "repeat_last_n": 0, "rep_pen_slope": 1,
    "frequency_penalty": 0, "presence_penalty": 0, "encoder_repetition_penalty": 1, "no_repeat_ngram_size": 0,
    "penalty_alpha": 0, "skew": 0, "min_length": 0, "min_tokens": 0, "num_beams": 1, "length_penalty": 1,
    "early_stopping": False, "do_sample": True, "add_bos_token": True, "ban_eos_token": False, "ignore_eos": False,
    "skip_special_tokens": True, "temperature_last": True, "smoothing_factor": 0, "smoothing_curve": 1,
    "dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2,
    "dry_sequence_breakers": '["\\n",":","\\"","*"]', "dry_penalty_last_n": 0, "xtc_threshold": 0.1,
    "xtc_probability": 0, "top_n_sigma": 0, "nsigma": 0, "adaptive_target": -0.01, "adaptive_decay": 0.9,
    "min_keep": 0, "mirostat_mode": 0, "mirostat_tau": 5, "mirostat_eta": 0.1, "mirostat": 0,
    "sampler_priority": [
        "repetition_penalty", "presence_penalty", "frequency_penalty", "dry", "temperature", "dynamic_temperature",
        "quadratic_sampling", "top_n_sigma", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "tfs",
        "top_a", "min_p", "adaptive_p", "mirostat", "xtc", "encoder_repetition_penalty", "no_repeat_ngram",
    ],
    "stop": ["\nUser:", "\nBot:"], "stopping_strings": ["\nUser:", "\nBot:"], "custom_token_bans": "",
    "banned_strings": [], "guidance_scale": 1, "negative_prompt": "", "max_tokens_second": 0,
    "include_reasoning": True, "api_type": "ooba", "api_server": "http://127.0.0.1:5000/",
}  # fmt: skip
HEADERS = {"Connection": "close", "User-Agent": "node-fetch", "Accept-Encoding": "gzip, deflate, br"}


def generate(client: Client, **more: Any) -> Any:
    return client.post("/v1/completions", {**GENERATE, **more}, headers=HEADERS)


def test_the_status_is_the_model_s_name(api: Client) -> None:
    listed = api.get("/v1/models", headers=HEADERS)
    assert isinstance(listed.json()["data"], list)
    assert "x-powered-by" not in listed.headers
    assert api.get("/v1/internal/model/info").json() == {"model_name": "fake", "lora_names": [], "context_length": 4096}


def test_tokens_are_counted_while_the_model_is_busy(api: Client) -> None:
    model = api.use(FakeModel(hold_after=1))
    with api.http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True}) as busy:
        lines = busy.iter_lines()  # kept: were it dropped, the connection would be closed
        next(lines)
        assert model.holding.wait(5)
        assert api.post("/v1/internal/encode", {"text": "héllo"}).json()["length"] == 6
        assert model.holding.is_set()
        model.release.set()


def test_everything_that_it_sends_by_default_is_taken_without_a_warning(api: Client) -> None:
    got = generate(api)
    assert got.status_code == 200, got.text
    assert "warnings" not in got.json()
    assert got.json()["choices"][0]["text"] == "Paris."
    request = api.app.models.loaded.requests[-1]
    assert request.params.repetition_penalty == 1.2
    assert request.params.repetition_penalty_range == 0
    assert request.max_tokens == 200
    assert request.alternatives == 10


def test_the_logprobs_panel_gets_one_object_a_chunk(real: Client) -> None:
    # with a seed, because a letter split into tokens has no text of its own in the panel
    chunks = events(generate(real, stream=True, max_tokens=6, max_new_tokens=6, seed=1).text)
    panels = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    assert panels
    assert all(not {"error", "message", "detail"} & set(chunk) for chunk in chunks)
    for panel in panels:
        assert len(panel["top_logprobs"]) == 1
        assert len(panel["top_logprobs"][0]) >= 10
        assert all(value <= 0 for value in panel["top_logprobs"][0].values())
    assert "".join(panel["tokens"][0] for panel in panels).startswith("".join(c["choices"][0]["text"] for c in chunks))


@pytest.mark.parametrize("stream", [False, True])
def test_closing_the_connection_frees_the_place(api: Client, stream: bool) -> None:
    model = api.use(FakeModel("x" * 3000, delay=0.01))
    if stream:
        with api.http.stream("POST", "/v1/completions", json={**GENERATE, "stream": True}) as reply:
            next(reply.iter_lines())
    else:
        with pytest.raises(Exception, match="timed out"):
            api.post("/v1/completions", GENERATE, timeout=0.3)
    end = time.monotonic() + 2
    while model.running and time.monotonic() < end:
        time.sleep(0.01)
    assert not model.running


def test_an_abort_before_the_first_token_frees_the_place(api: Client) -> None:
    model = api.use(FakeModel(hold_after=0))
    with pytest.raises(Exception, match="timed out"):
        api.post("/v1/completions", GENERATE, timeout=0.3)
    end = time.monotonic() + 2
    while model.running and time.monotonic() < end:
        time.sleep(0.01)
    assert not model.running


def test_guidance_and_a_negative_prompt_reach_the_model(api: Client) -> None:
    model = api.use(FakeModel())
    generate(api, guidance_scale=1.5, negative_prompt="dull")
    assert bytes(model.requests[-1].negative_ids[1:]) == b"dull"


def test_banned_tokens_and_words_never_come(real: Client) -> None:
    ask = {"prompt": "The sky is", "temperature": 0, "max_tokens": 1, "max_new_tokens": 1, "sampler_priority": []}
    first = generate(real, **ask).json()["choices"][0]["text"]
    ids = real.post("/v1/internal/encode", {"text": first}).json()["tokens"]
    assert generate(real, **ask, custom_token_bans=",".join(map(str, ids))).json()["choices"][0]["text"] != first
    assert generate(real, **ask, banned_strings=[first.strip()]).json()["choices"][0]["text"] != first
    ask |= {"max_tokens": 16, "max_new_tokens": 16}
    said = generate(real, **ask).json()["choices"][0]["text"]
    words = said.split()
    several = [" ".join(words[at : at + 3]) for at in range(0, len(words) - 2, 3)]
    for stream in (False, True):
        got = generate(real, **ask, banned_strings=several, stream=stream)
        parts = events(got.text) if stream else [got.json()]
        avoided = "".join(part["choices"][0]["text"] for part in parts if part["choices"])
        assert len(avoided) > 10
        assert not any(each.lower() in avoided.lower() for each in several)


def test_a_grammar_holds_and_a_bad_one_is_refused(real: Client) -> None:
    got = generate(real, grammar_string='root ::= "yes" | "no"').json()
    assert got["choices"][0]["text"] in ("yes", "no")
    for stream in (False, True):
        bad = generate(real, grammar_string="root ::= (", stream=stream)
        assert bad.status_code == 400, bad.text
        assert "grammar" in bad.json()["error"]["message"]
    assert generate(real, max_tokens=1).status_code == 200


def test_what_means_nothing_here_is_warned_of(api: Client) -> None:
    warnings = generate(api, skew=0.5, min_keep=7, wobble=1).json()["warnings"]
    assert {sentence.split()[2] for sentence in warnings} == {"skew", "min_keep", "wobble"}


def test_older_versions_spell_some_things_differently(api: Client) -> None:
    got = generate(api, seed=-1, sampler_seed=-1, grammar_string="", tfs_z=1, n=1, logprobs=None)
    assert got.status_code == 200
    assert "warnings" not in got.json()


def test_an_empty_key_is_no_key(api: Client) -> None:
    with socket.create_connection(("127.0.0.1", api.http.base_url.port)) as raw:  # httpx refuses to send it
        raw.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \r\nConnection: close\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 200")


def test_an_error_in_mid_stream_ends_the_body_cleanly(api: Client) -> None:
    api.use(FakeModel("abcdef", fail_after=2))
    chunks = events(generate(api, stream=True).text)
    assert "it was told to fail" in chunks[-1]["error"]["message"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "ab"
