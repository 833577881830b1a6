"""Whether drafts change the text: replies of many seeds with all samplers, drafted and not.

The demo model as it is (Q4_1) and with F32 weights, drafting by repetition and with a draft model. Each request
has a context of its own. Nothing here depends on the time, so other programs may run meanwhile.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from bench.figure import Figure, Side, write
from bench.llama_server import in_full
from bench.one_stream import default_threads, model_file
from bench.speculation import PROMPTS, load
from loaders.base import Model, Request
from loaders.params import SamplingParams

SEEDS, TOKENS = 200, 48


def text(model: Model, ids: list[int], seed: int) -> list[int]:
    params = SamplingParams(temperature=0.8, min_p=0.05, xtc_probability=0.3, dry_multiplier=0.5, seed=seed)
    return [token.id for token in model.generate(Request(ids, params, TOKENS))]


def compare(path: Path, kind: str, drafters: dict[str, tuple[str, Path | None]], seeds: int) -> list[Figure]:
    """The same seeds by the model without drafts and by each of `drafters` (name: its spec_type, its draft model)."""
    threads = default_threads()
    same = dict.fromkeys(drafters, 0)
    prompts = list(PROMPTS.values())
    with ExitStack() as stack:
        # In a context that holds several chats, rounding depends on where each of them lies.
        plain, *others = (
            stack.enter_context(load(path, threads, *how, separate_contexts=True))
            for how in (("none", None), *drafters.values())
        )
        drafting = dict(zip(drafters, others, strict=True))
        for seed in range(seeds):
            # The prompt that repeats itself drafts most: every other seed takes it, the rest the other ones.
            ids = plain.tokenizer.encode(prompts[seed // 2 % len(prompts) if seed % 2 else 0])
            expected = text(plain, ids, seed)
            for name, model in drafting.items():
                same[name] += text(model, ids, seed) == expected
            if seed % 20 == 19:
                print(f"  {kind}: {seed + 1} of {seeds} seeds: {same}", flush=True)
    return [
        Figure("", f"{kind}, {name}", "replies", Side("the same text", [found]), Side("all", [seeds]), 1.0)
        for name, found in same.items()
    ]


def main() -> None:
    seeds = int(sys.argv[-1]) if sys.argv[-1].isdigit() else SEEDS
    small = model_file()
    found = compare(small, "Q4_1", {"ngram": ("ngram", None)}, seeds)
    with in_full() as path:
        drafters = {"ngram": ("ngram", None), "Q4_1 and repetitions draft": ("none", small)}
        found += compare(path, "F32", drafters, seeds)
    write("drafted_texts", found, f"{TOKENS} tokens at temperature 0.8 with min_p, XTC and DRY; four prompts.")


if __name__ == "__main__":
    main()
