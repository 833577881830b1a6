"""The cost of parsing a reply while it arrives, and of watching its reasoning, compared with the demo model's stream.

From one run: CPU time of parsing per token compared with the time per token; extra work before the first piece compared
with the time to the first piece; CPU time of a reader's thread until it has the first pieces and their parts, with and
without a parser.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from bench.figure import ROOT, Figure, Side, write
from loaders import loader_named
from loaders.base import Model
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.families.reply_format import ReplyFormat
from modules.families.table import family_named
from modules.generation.session import ModelSession
from modules.generation.thought_budget import ThoughtBudget
from modules.library.demo_model import DemoModel

ROUNDS, TOKENS = 7, 160
FIRST, STARTS = 8, 30  # pieces, and how often a reply is begun per round
PROMPT = "<|im_start|>user\nTell me a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
TOOLS = {"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}}
#: Reasoning, prose with invalid marks, code, a call.
REPLY = (
    "The user wants to know about `<think>` and about a < b. " * 40
    + "\n</think>\n\n" + "Use `<think>` tags and <b>, as in:\n```\n<tool_call>x</tool_call>\n```\n" * 12
    + '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
)  # fmt: skip


def stream(session: ModelSession, reading: ReplyFormat | None) -> tuple[float, float]:
    """Milliseconds to the first piece, and per later token."""
    params = SamplingParams(do_sample=False, ban_eos_token=True)
    began = time.perf_counter()
    with session.start(PROMPT, params, max_tokens=TOKENS, reading=reading) as reply:
        next(reply)
        first = time.perf_counter()
        count = sum(len(piece.tokens) for piece in reply)
    return (first - began) * 1000, (time.perf_counter() - first) * 1000 / max(count, 1)


def parsing(model: Model, reading: ReplyFormat, ids: Sequence[int]) -> float:
    """CPU milliseconds per token, for the parser and for the thought budget."""
    tokenizer = model.tokenizer
    texts = [tokenizer.piece(each, special=True).decode("utf-8", "replace") for each in ids]
    logits = np.zeros(tokenizer.n_vocab, np.float32)
    parser, watch, told = reading.parser(), ThoughtBudget(reading, tokenizer), [0]
    began = time.thread_time()
    for token, text in zip(ids, texts, strict=True):
        watch(told, logits)
        told.append(token)
        parser.push(text)
    parser.finish()
    return (time.thread_time() - began) * 1000 / len(ids)


def beginning(model: Model, reading: ReplyFormat) -> float:
    """CPU milliseconds for what is created before the first piece, and for checking it."""
    began = time.thread_time()
    for _ in range(20):
        parser, watch = reading.parser(), ThoughtBudget(reading, model.tokenizer)
        watch([0], np.zeros(1, np.float32))
        parser.push("Hello")
    return (time.thread_time() - began) * 1000 / 20


def reading_thread(session: ModelSession, reading: ReplyFormat | None) -> float:
    """CPU milliseconds of a reader's thread until it has the first pieces."""
    params = SamplingParams(do_sample=False, ban_eos_token=True)
    began = time.thread_time()
    with session.start(PROMPT, params, max_tokens=FIRST, reading=reading) as reply:
        parser = reading.parser(reply.marks) if reading else None
        for piece in reply:
            if parser:
                parser.push(piece.text)
    return (time.thread_time() - began) * 1000


def main() -> None:
    demo = DemoModel(Paths.under(ROOT, model_dir=ROOT / "cache" / "test-models"))
    loader = loader_named("llama.cpp")
    with loader.load(demo.path, loader.Options.parse({"n_ctx": 2048}), lambda *_: True) as model:
        session = ModelSession(model)
        ids = session.encode(REPLY)
        plain, thinks = ReplyFormat(family_named("qwen")), ReplyFormat(family_named("qwen"), "<think>\n", "", TOOLS)
        costs, speeds, firsts, more, read, unread = [], [], [], [], [], []
        stream(session, plain)
        for _ in range(ROUNDS):
            costs.append(parsing(model, thinks, ids))
            first, speed = stream(session, plain)
            firsts.append(first * 0.01)
            speeds.append(speed)
            more.append(beginning(model, thinks))
            begun = [(reading_thread(session, thinks), reading_thread(session, None)) for _ in range(STARTS)]
            read.append(median(each for each, _ in begun))
            unread.append(median(each for _, each in begun))
        allowed = [each * 0.01 for each in speeds]
    write(
        "parsing",
        [
            Figure("parsing", "parsing a reply", "ms per token", Side("parser and thought budget", costs),
                   Side("1 % of a token of the stream", allowed), 1.0, at_most=True),
            Figure("parsing", "before the first piece", "ms", Side("setup for a reader", more),
                   Side("1 % of the time to the first piece", firsts), 1.0, at_most=True),
            Figure("parsing", f"until the first {FIRST} pieces", "CPU ms of the reader",
                   Side("with a parser", read), Side("without", unread), 1.3, at_most=True),
        ],
        f"The demo model; a reply of {len(ids):,} tokens with reasoning, code and a call.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
