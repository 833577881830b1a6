"""What a look at the next token costs beside one bare forward pass, and what a slider's move costs: the whole view."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from bench.figure import ROOT, Figure, Side, in_turn, write
from loaders import loader_named
from loaders.base import Request
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.generation.generator import Generator
from modules.generation.place import Place
from modules.generation.stages import inside
from modules.library.demo import DemoModel
from modules.ui.odds_view import odds_html
from modules.ui.river import inside_html

ROUNDS, WORDS, MOVES = 9, 400, 20
PARAMS = SamplingParams(temperature=0.7, top_p=0.9, top_k=20, min_p=0.05, repetition_penalty=1.15)


class _One:
    def __init__(self, model: Any) -> None:
        self.loaded = model

    def current(self) -> Any:
        return self.loaded


def view(place: Place, params: SamplingParams) -> int:
    """All that a page is sent: bars and river."""
    odds = place.distribution(params, sampled=True, count=25)
    return len(odds_html((place, odds), None)) + len(inside_html(inside(place, params)))


def main() -> None:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 2048, "threads": 1, "threads_batch": 1, "cache_capacity": "0"})
    with loader.load(DemoModel(Paths.under(ROOT)).path, options, lambda *_: True) as model:
        session = Generator(_One(model)).session()
        turn = iter(range(10**6))

        def prompt() -> str:  # another beginning each time: nothing of it is in the cache
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
        tall = Place(model, place.text, place.ids, PARAMS, logits)
        tall._shown.update({id: place.token(id % model.tokenizer.n_vocab) for id in range(large)})
        moves = []
        for at in range(MOVES):
            start = time.perf_counter()
            view(tall, PARAMS.changed(top_k=5 + at, temperature=0.5 + at / 20))
            moves.append((time.perf_counter() - start) * 1000)
    write(
        "looks",
        [
            Figure("distribution and sampler view", "after a prompt of 800 tokens", "ms", Side("look and view", looks),
                   Side("bare forward pass", passes), bound=1.3, at_most=True),
            Figure("a slider's move", f"vocabulary of {large:,}", "ms", Side("all drawn anew", moves),
                   Side("allowed", [50.0]), bound=1.0, at_most=True),
        ],
        f"One thread. Preset-like knobs {PARAMS.differing()}.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
