"""The sampler chain, per token on one core, compared with its time limit and with llama.cpp's own chain.

No model, random logits. The figure is the CPU time of one thread: the machine may have other work.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable
from typing import Any

import llama_cpp as C
import numpy as np

from bench.figure import Figure, Side, in_turn, write
from loaders.params import SAMPLERS, SamplingParams
from loaders.sampling import SamplerChain
from loaders.sampling.candidates import SamplerBuffers

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
#: The transforming steps first and the costly truncations before the cheap ones: each works on the whole vocabulary.
HARD = ("dynamic_temperature", "quadratic_sampling", "typical_p", "tfs", "eta_cutoff", "top_n_sigma", "top_p")


def model_like(n_vocab: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A wide bulk of unlikely tokens and sixty likely ones."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n_vocab) * 2.5
    z[rng.choice(n_vocab, 60, replace=False)] += np.linspace(15, 3, 60)
    return z.astype(np.float32)


def chain(
    n_vocab: int, knobs: dict[str, Any], prompt: list[int], scratch: SamplerBuffers | None = None
) -> SamplerChain:
    """One request's samplers."""
    return SamplerChain(
        SamplingParams(**knobs), n_vocab=n_vocab, seed=1, prompt_ids=prompt, newline_ids=[5], scratch=scratch
    )


def prompt_of(n_vocab: int) -> list[int]:
    """1,500 tokens, all equally likely."""
    found: list[int] = np.random.default_rng(0).integers(0, n_vocab, 1500).tolist()
    return found


def timed(choose: Callable[[int], object]) -> float:
    """Milliseconds per token: the median of TOKENS calls."""
    times = []
    for i in range(TOKENS):
        started = time.thread_time()
        choose(i)
        times.append((time.thread_time() - started) * 1000)
    return statistics.median(times)


def measure(n_vocab: int, knobs: dict[str, Any], requests: int = 1) -> list[float]:
    """Milliseconds per token, `choose` and `accept`, after a prompt of 1,500 tokens: the median of each round."""
    scratch = SamplerBuffers(n_vocab)
    chains = [chain(n_vocab, knobs, prompt_of(n_vocab), scratch) for _ in range(requests)]
    places = [model_like(n_vocab, seed) for seed in range(8)]

    def step(i: int) -> None:
        for number, each in enumerate(chains):
            each.accept(each.choose(places[(i + number) % len(places)]))

    return [timed(step) / requests for _ in range(ROUNDS)]


class Peer:
    """The chain of llama.cpp for the preset simple-1: penalties, temperature, top-k, top-p, the draw."""

    def __init__(self, n_vocab: int) -> None:
        known = SIMPLE_1
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for step in (
            C.llama_sampler_init_penalties(n_vocab, 1024, known["repetition_penalty"], 0.0, 0.0),
            C.llama_sampler_init_temp(known["temperature"]),
            C.llama_sampler_init_top_k(int(known["top_k"])),
            C.llama_sampler_init_top_p(known["top_p"], 1),
            C.llama_sampler_init_dist(1),
        ):
            C.llama_sampler_chain_add(self._chain, step)
        for token in prompt_of(n_vocab):
            C.llama_sampler_accept(self._chain, token)
        self._tokens = np.zeros(n_vocab, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        self._ids = np.arange(n_vocab, dtype=np.int32)
        data = self._tokens.ctypes.data_as(ctypes.POINTER(C.llama_token_data))
        self._array = C.llama_token_data_array(data, n_vocab, -1, False)
        self._places = [model_like(n_vocab, seed) for seed in range(8)]

    def choose(self, i: int) -> None:
        """What llama_sampler_sample does: fill the candidates, apply, accept."""
        self._tokens["id"], self._tokens["logit"] = self._ids, self._places[i % len(self._places)]
        self._array.size, self._array.selected, self._array.sorted = len(self._ids), -1, False
        C.llama_sampler_apply(self._chain, ctypes.byref(self._array))
        C.llama_sampler_accept(self._chain, int(self._tokens["id"][self._array.selected]))

    def close(self) -> None:
        C.llama_sampler_free(self._chain)


def beside_peer(n_vocab: int) -> Figure:
    """Preset simple-1, both alternately."""
    peer = Peer(n_vocab)
    mine = chain(n_vocab, SIMPLE_1, prompt_of(n_vocab))
    places = [model_like(n_vocab, seed) for seed in range(8)]
    try:
        ours, theirs = in_turn(
            ROUNDS,
            lambda: timed(lambda i: mine.accept(mine.choose(places[i % len(places)]))),
            lambda: timed(peer.choose),
        )
    finally:
        peer.close()
    sides = Side("loaders/sampling", ours), Side("llama.cpp's chain", theirs)
    return Figure("samplers", f"preset simple-1, {n_vocab:,} tokens", "ms per token", *sides, 1.0, at_most=True)


def main() -> None:
    assert set(HARD) < set(SAMPLERS)
    every, hard = "all samplers, default order", {**ALL, "sampler_priority": HARD}
    cases = [
        (f"{every}, 50,000 tokens", 50_000, ALL, 0.4, 1),
        (f"{every}, 150,000 tokens", 150_000, ALL, 0.94, 1),
        (f"{every}, 256,000 tokens", 256_000, ALL, 1.5, 1),
        (f"{every}, 256,000 tokens, four requests a step", 256_000, ALL, 1.5, 4),
        ("all samplers, expensive ones first, 256,000 tokens", 256_000, hard, 1.5, 1),
        ("min_p 0.05, 49,152 tokens", 49_152, {"min_p": 0.05}, 0.15, 1),
        ("greedy, 49,152 tokens", 49_152, {"do_sample": False}, 0.03, 1),
    ]
    figures = [
        Figure(
            "samplers", what, "ms per token", Side("loaders/sampling", measure(n, knobs, requests)),
            Side("allowed", [bound]), 1.0, at_most=True,
        )
        for what, n, knobs, bound, requests in cases
    ]  # fmt: skip
    figures += [beside_peer(n) for n in (50_000, 150_000, 256_000)]
    write("samplers", figures, "CPU time of one thread; NumPy only. Each value is the median of 60 tokens.")


if __name__ == "__main__":
    main()
