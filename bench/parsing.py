"""What it costs to take a reply apart while it comes: parser and the watch over its thought, against the demo model's
stream.

All of one run: the parsing's processor time for a token against the time of a token; what is done more before the first
piece against the time until it comes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench.figure import ROOT, Figure, Side, write
from loaders import loader_named
from loaders.base import Model
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.families.reading import Reading
from modules.families.table import named
from modules.generation.session import ModelSession
from modules.generation.thought_end import ThoughtEnd
from modules.library.demo import DemoModel

ROUNDS, TOKENS = 7, 160
PROMPT = "<|im_start|>user\nTell me a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
TOOLS = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}}
#: A thought, prose with marks that are none, code, a call.
REPLY = (
    "The user wants to know about `<think>` and about a < b. " * 40
    + "\n</think>\n\n" + "Use `<think>` tags and <b>, as in:\n```\n<tool_call>x</tool_call>\n```\n" * 12
    + '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
)  # fmt: skip


def stream(session: ModelSession, reading: Reading | None) -> tuple[float, float]:
    """Milliseconds to the first piece, and of each token after it."""
    params = SamplingParams(do_sample=False, ban_eos_token=True)
    began = time.perf_counter()
    with session.start(PROMPT, params, max_tokens=TOKENS, reading=reading) as reply:
        next(reply)
        first = time.perf_counter()
        count = sum(len(piece.tokens) for piece in reply)
    return (first - began) * 1000, (time.perf_counter() - first) * 1000 / max(count, 1)


def parsing(model: Model, reading: Reading, ids: Sequence[int]) -> float:
    """Milliseconds of the processor a token, for the parser and for what watches over the thought."""
    tokenizer = model.tokenizer
    texts = [tokenizer.piece(each, special=True).decode("utf-8", "replace") for each in ids]
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    parser, watch, told = reading.parser(), ThoughtEnd(reading, tokenizer), [0]
    began = time.thread_time()
    for token, text in zip(ids, texts, strict=True):
        watch(told, logits)
        told.append(token)
        parser.push(text)
    parser.finish()
    return (time.thread_time() - began) * 1000 / len(ids)


def beginning(model: Model, reading: Reading) -> float:
    """Milliseconds of the processor for what is made before the first piece, and for looking at that."""
    began = time.thread_time()
    for _ in range(20):
        parser, watch = reading.parser(), ThoughtEnd(reading, model.tokenizer)
        watch([0], np.zeros(1, np.float32))
        parser.push("Hello")
    return (time.thread_time() - began) * 1000 / 20


def main() -> None:
    demo = DemoModel(Paths.under(ROOT, model_dir=ROOT / "cache" / "test-models"))
    loader = loader_named("llama.cpp")
    with loader.load(demo.path, loader.Options.parse({"n_ctx": 2048}), lambda *_: True) as model:
        session = ModelSession(model)
        ids = session.encode(REPLY)
        plain, thinks = Reading(named("qwen")), Reading(named("qwen"), "<think>\n", "", TOOLS)
        costs, speeds, firsts, more = [], [], [], []
        stream(session, plain)
        for _ in range(ROUNDS):
            costs.append(parsing(model, thinks, ids))
            first, speed = stream(session, plain)
            firsts.append(first * 0.01)
            speeds.append(speed)
            more.append(beginning(model, thinks))
        allowed = [each * 0.01 for each in speeds]
    write(
        "parsing",
        [
            Figure("parsing", "taking a reply apart", "ms a token", Side("parser and watch", costs),
                   Side("1 % of a token of the stream", allowed), 1.0, at_most=True),
            Figure("parsing", "before the first piece", "ms", Side("what is made for a reader", more),
                   Side("1 % of the time until it comes", firsts), 1.0, at_most=True),
        ],
        f"The demo model; a reply of {len(ids):,} tokens with a thought, code and a call.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
