"""The cost of inspecting the next token compared with one forward pass, and of moving a slider: the whole view."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np

from bench.figure import ROOT, Figure, Side, in_turn, write
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.generation.generator import Generator
from modules.generation.logits_snapshot import LogitsSnapshot
from modules.generation.sampler_trace import trace_samplers
from modules.library.demo_model import DemoModel
from modules.ui.editor.sampler_flow import sampler_flow_html
from modules.ui.editor.top_tokens import top_tokens_html

ROUNDS, WORDS, MOVES = 9, 400, 20
PARAMS = SamplingParams(temperature=0.7, top_p=0.9, top_k=20, min_p=0.05, repetition_penalty=1.15)


class _One:
    def __init__(self, model: Any) -> None:
        self.loaded = model

    def current(self) -> Any:
        return self.loaded


class _LargeVocabulary:
    """A model with as many tokens as asked for: beyond its own, their texts repeat."""

    def __init__(self, model: Model, n_vocab: int) -> None:
        self._model, self._tokenizer = model, model.tokenizer
        self.tokenizer, self.n_vocab = self, n_vocab

    def piece(self, token: int, special: bool = False) -> bytes:
        return self._tokenizer.piece(token % self._tokenizer.n_vocab, special=special)

    def is_special(self, token: int) -> bool:
        return self._tokenizer.is_special(token % self._tokenizer.n_vocab)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer if hasattr(self._tokenizer, name) else self._model, name)


def view(place: LogitsSnapshot, params: SamplingParams) -> int:
    """All that a page is sent: the bars and the samplers' flow."""
    odds = place.distribution(params, sampled=True, count=25)
    return len(top_tokens_html((place, odds), None)) + len(sampler_flow_html(trace_samplers(place, params)))


def main() -> None:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 2048, "threads": 1, "threads_batch": 1, "cache_capacity": "0"})
    with loader.load(DemoModel(Paths.under(ROOT)).path, options, lambda *_: True) as model:
        session = Generator(_One(model)).session()
        turn = iter(range(10**6))

        def prompt() -> str:  # a different beginning each time, so that nothing is cached
            return f"{next(turn)} " + "the sea " * WORDS

        def look() -> float:
            text, start = prompt(), time.perf_counter()
            view(session.look(text, PARAMS), PARAMS)
            return (time.perf_counter() - start) * 1000

        def bare() -> float:
            ids, start = model.tokenizer.encode(prompt()), time.perf_counter()
            model.next_logits(Request(ids))
            return (time.perf_counter() - start) * 1000

        looks, passes = in_turn(ROUNDS, look, bare)
        large = 150_000
        rng = np.random.default_rng(0)
        logits = (rng.standard_normal(large) * 2.5).astype(np.float32)
        logits[rng.choice(large, 60, replace=False)] += np.linspace(15, 3, 60).astype(np.float32)
        place = session.look("the sea", PARAMS)
        large_model = cast(Model, _LargeVocabulary(model, large))
        tall = LogitsSnapshot(large_model, place.text, place.ids, PARAMS, logits)
        moves = []
        for at in range(MOVES):
            start = time.perf_counter()
            view(tall, PARAMS.changed(top_k=5 + at, temperature=0.5 + at / 20))
            moves.append((time.perf_counter() - start) * 1000)
    write(
        "looks",
        [
            Figure("distribution and sampler view", "after a prompt of 800 tokens", "ms", Side("inspection", looks),
                   Side("bare forward pass", passes), bound=1.3, at_most=True),
            Figure("a slider's move", f"vocabulary of {large:,}", "ms", Side("everything redrawn", moves),
                   Side("allowed", [50.0]), bound=1.0, at_most=True),
        ],
        f"One thread. Preset-like knobs {PARAMS.differing()}.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
