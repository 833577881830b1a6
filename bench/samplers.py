"""The sampler stack, per token on one core, against the time that is allowed for it: no model, made-up logits."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from bench.figure import Figure, Side, write
from loaders.params import SAMPLERS, SamplingParams
from loaders.sampling import SamplerChain

ROUNDS, TOKENS = 9, 60

SIMPLE_1 = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.15}
#: Every step of sampler_priority; mirostat and adaptive-p exclude each other, as do the two temperatures.
ALL: dict[str, Any] = {
    "repetition_penalty": 1.15, "presence_penalty": 0.2, "frequency_penalty": 0.1, "dry_multiplier": 0.8,
    "top_n_sigma": 4, "dynamic_temperature": True, "dynatemp_low": 0.8, "dynatemp_high": 1.4, "smoothing_factor": 0.05,
    "smoothing_curve": 1.5, "top_k": 200, "top_p": 0.98, "typical_p": 0.98, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1,
    "tfs": 0.99, "top_a": 0.01, "min_p": 0.001, "mirostat_mode": 2, "xtc_probability": 0.5,
    "encoder_repetition_penalty": 1.1, "no_repeat_ngram_size": 4,
}  # fmt: skip
#: The bending steps first and the costly cuts before the cheap ones: each works on the whole vocabulary.
HARD = ("dynamic_temperature", "quadratic_sampling", "typical_p", "tfs", "eta_cutoff", "top_n_sigma", "top_p")


def model_like(n_vocab: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A wide bulk of tokens that do not fit and sixty that do."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n_vocab) * 2.5
    z[rng.choice(n_vocab, 60, replace=False)] += np.linspace(15, 3, 60)
    return z.astype(np.float32)


def measure(n_vocab: int, knobs: dict[str, Any]) -> list[float]:
    """Milliseconds a token, `choose` and `accept`, after a prompt of 1,500 tokens: the median of each round."""
    prompt = np.random.default_rng(0).integers(0, n_vocab, 1500).tolist()
    chain = SamplerChain(SamplingParams(**knobs), n_vocab=n_vocab, seed=1, prompt_ids=prompt, newline_ids=[5])
    places = [model_like(n_vocab, seed) for seed in range(8)]
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for i in range(TOKENS):
            started = time.perf_counter()
            chain.accept(chain.choose(places[i % len(places)]))
            times.append((time.perf_counter() - started) * 1000)
        rounds.append(statistics.median(times))
    return rounds


def main() -> None:
    assert set(HARD) < set(SAMPLERS)
    cases = [
        ("all samplers, default order, 256,000 tokens", 256_000, ALL, 1.5),
        ("all samplers, costly ones first, 256,000 tokens", 256_000, {**ALL, "sampler_priority": HARD}, 1.5),
        ("preset simple-1, 256,000 tokens", 256_000, SIMPLE_1, 1.5),
        ("preset simple-1, 49,152 tokens", 49_152, SIMPLE_1, 0.15),
        ("min_p 0.05, 49,152 tokens", 49_152, {"min_p": 0.05}, 0.15),
        ("greedy, 49,152 tokens", 49_152, {"do_sample": False}, 0.03),
    ]
    figures = [
        Figure(
            "samplers", what, "ms a token", Side("loaders/sampling", measure(n, knobs)), Side("allowed", [bound]),
            1.0, at_most=True,
        )
        for what, n, knobs, bound in cases
    ]  # fmt: skip
    write("samplers", figures, "One core; NumPy alone. Each value is the median of 60 tokens.")


if __name__ == "__main__":
    main()
