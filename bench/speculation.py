"""What drafts from the text and of a draft model gain. Whether they change the text: drafted_texts.

The demo model with F32 weights, whose steps are bound by memory, and as it is (Q4_1), where a row more is expensive.
llama-server drafts with its own n-gram search; it is measured over HTTP. The demo model as it is also drafts for the
one with F32 weights.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

from bench.figure import Figure, Side, in_turn, write
from bench.llama_server import in_full, llama_server
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

TOKENS, ROUNDS = 160, 5
#: llama-server with its own n-gram drafts.
DRAFTS = ("-fa", "on", "--spec-type", "ngram-simple")
_LIST = "".join(f"{number}. The {name} is kept in the {place}.\n" for number, (name, place) in enumerate(
    [("hammer", "shed"), ("kettle", "kitchen"), ("ladder", "garage"), ("lantern", "cellar"), ("rope", "attic")], 1
))  # fmt: skip
PROMPTS = {
    "text that repeats its prompt": f"{_LIST * 3}1. The",
    "a story": "Once upon a time there was a girl who lived with her grandmother at the edge of the forest. One day",
    "a list": "Here are ten facts about the ocean:\n1.",
    "code": "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
}
GREEDY = SamplingParams(do_sample=False, ban_eos_token=True)


def load(path: Path, threads: int, spec: str, draft: Path | None = None, **more: object) -> Model:
    loader = loader_named("llama.cpp")
    options = {
        "n_ctx": 2048,
        "threads": threads,
        "threads_batch": threads,
        "spec_type": spec,
        "flash_attn": "on",
        **more,
    }
    if draft:
        options["draft_model"] = str(draft)
    return loader.load(path, loader.Options.parse(options), lambda *_: True)


def speed(model: Model, prompt: str) -> float:
    stream = model.generate(Request(model.tokenizer.encode(prompt), GREEDY, TOKENS))
    count = len(list(stream))
    return (count - 1) / stream.report.decode_seconds


def server_speed(url: str, prompt: str) -> float:
    body = {"prompt": prompt, "n_predict": TOKENS, "temperature": 0, "ignore_eos": True, "cache_prompt": True}
    request = urllib.request.Request(
        f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    timings = json.load(urllib.request.urlopen(request))["timings"]
    return float((timings["predicted_n"] - 1) / (timings["predicted_ms"] / 1000))


def compare(path: Path, kind: str, threads: int, rounds: int) -> list[Figure]:
    found = []
    with load(path, threads, "none") as plain, load(path, threads, "ngram") as drafting:
        for name, prompt in PROMPTS.items():
            ours, without = in_turn(
                rounds, lambda prompt=prompt: speed(drafting, prompt), lambda prompt=prompt: speed(plain, prompt)
            )  # type: ignore[misc]
            wanted = 1.5 if kind == "F32" and "repeats" in name else 0.97
            sides = Side("ngram", ours), Side("none", without)
            found.append(Figure("", f"{kind}: {name}", "tokens/s", *sides, wanted))
        if kind == "F32":
            prompt = PROMPTS["text that repeats its prompt"]
            with llama_server(threads, parallel=1, n_ctx=2048, model=path, more=DRAFTS) as url:
                ours, peer = in_turn(rounds, lambda: speed(drafting, prompt), lambda: server_speed(url, prompt))
            sides = Side("engine", ours), Side("llama-server, ngram-simple", peer)
            found.append(Figure("", "F32: text that repeats its prompt", "tokens/s", *sides, 1.0))
    return found


def compare_draft_model(path: Path, draft: Path, threads: int, rounds: int) -> list[Figure]:
    found = []
    with load(path, threads, "none") as plain, load(path, threads, "none", draft) as drafting:
        for name, prompt in PROMPTS.items():
            ours, without = in_turn(
                rounds, lambda prompt=prompt: speed(drafting, prompt), lambda prompt=prompt: speed(plain, prompt)
            )  # type: ignore[misc]
            sides = Side("Q4_1 and repetitions draft", ours), Side("none", without)
            found.append(Figure("", f"F32 with a draft model: {name}", "tokens/s", *sides, 1.5))
    return found


def main() -> None:
    rounds = int(sys.argv[-1]) if sys.argv[-1].isdigit() else ROUNDS
    threads = default_threads()
    found = compare(model_file(), "Q4_1", threads, rounds)
    with in_full() as path:
        found += compare(path, "F32", threads, rounds)
        found += compare_draft_model(path, model_file(), threads, rounds)
    write("speculation", found, f"{threads} threads, greedy, {TOKENS} tokens. Texts: see drafted_texts.")


if __name__ == "__main__":
    main()
