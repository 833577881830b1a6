"""The same logits and settings keep the same candidates with the same probabilities in each loader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loaders.base import Model, Request
from loaders.job import Job
from loaders.params import SamplingParams
from loaders.sampler import make_sampler

SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.15},
    {"min_p": 0.05, "xtc_probability": 1.0, "xtc_threshold": 0.1},
    {"typical_p": 0.8, "tfs": 0.9, "top_a": 0.2},
    {"dry_multiplier": 0.8, "dry_allowed_length": 1, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    {"dynamic_temperature": True, "dynatemp_low": 0.5, "dynatemp_high": 1.5, "top_n_sigma": 1.0},
    {"smoothing_factor": 0.3, "epsilon_cutoff": 3, "eta_cutoff": 4, "temperature_last": True, "temperature": 1.4},
    {"mirostat_mode": 2, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.2},
    {"ban_eos_token": True, "custom_token_bans": "5,6,7", "min_length": 4},
]
TEXT = 'She said: "Once more: once more."\n'


@pytest.fixture(params=["llamacpp_hf_model", "transformers_model"])
def other(request: pytest.FixtureRequest) -> Model:
    pytest.importorskip("transformers")
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Model)
    return found


def distribution(model: Model, settings: dict[str, Any], logits: np.ndarray) -> np.ndarray:
    ids = model.tokenizer.encode(TEXT)
    job = Job(Request(ids, SamplingParams(**settings, seed=1)))
    chain = make_sampler(job, model.tokenizer, model.tokenizer.end_ids, n_ctx=2048)._chain  # type: ignore[attr-defined]
    tokens, probabilities = chain.distribution(logits)
    out = np.zeros(model.tokenizer.n_vocab)
    out[tokens] = probabilities
    return out


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: next(iter(each)))
def test_the_same_candidates_under_each_loader(demo_model: Model, other: Model, settings: dict[str, Any]) -> None:
    assert demo_model.tokenizer.encode(TEXT) == other.tokenizer.encode(TEXT)
    for seed in range(3):
        logits = np.random.default_rng(seed).normal(0, 4, demo_model.tokenizer.n_vocab).astype(np.float32)
        native, wrapped = distribution(demo_model, settings, logits), distribution(other, settings, logits)
        assert ((native > 0) == (wrapped > 0)).all()
        np.testing.assert_allclose(native, wrapped, atol=1e-4)


@pytest.mark.slow
def test_greedy_replies_of_the_same_engine_are_the_same(demo_model: Model, llamacpp_hf_model: Model) -> None:
    pytest.importorskip("transformers")
    params = SamplingParams(do_sample=False, ban_eos_token=True)
    for text in ("Once upon a time", "def main():", "1 + 1 =", "Dear Sir or Madam,"):
        request = Request(demo_model.tokenizer.encode(text), params, 60)
        ours = [token.id for token in demo_model.generate(request)]
        assert [token.id for token in llamacpp_hf_model.generate(request)] == ours
