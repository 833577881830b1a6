"""Prompt tokens that are read in each turn of a chat whose history no longer fits into the context.

`python -m bench full_context` continues a full chat of 2,048 tokens for 40 turns: messages are left out in steps to a
part of the room (`truncation_keep`), with `context_shift`, and with all but the last word read while it is typed: then
what is read after Enter counts. The peer is what is new in each prompt.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path

from bench.figure import Figure, Side, write
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams
from loaders.prefix import common_prefix
from modules.chat.conversation import Message
from modules.chat.prompt.build import ChatPrompt, PromptContext, build_prompt
from modules.chat.work_ahead import ENDINGS
from modules.config.paths import Paths
from modules.prompts.templates import Templates

N_CTX, NEW, MESSAGE, TURNS = 2048, 48, 60, 40
WORDS = (
    *("the", "river", "lamp", "old", "garden", "of", "stone", "and", "a", "bird", "that", "sang", "under", "seven"),
    *("cold", "stars", "while", "it", "rained", "on"),
)


def turns(model: Model, keep: float, *, ahead: bool = False) -> tuple[list[float], list[float]]:
    """Prompt tokens read, and prompt tokens that are new, in each turn past a full context."""
    templates = Templates(Paths.under(Path(__file__).resolve().parents[1]))
    stage = PromptContext("instruct", templates.load("ChatML"), system="Be brief. " * 20)
    params = SamplingParams(do_sample=False, ban_eos_token=True, max_new_tokens=NEW)
    draw = random.Random(1)
    said: list[Message] = []

    def add(role: str, text: str) -> None:
        said.append(Message(str(len(said)), None, role, text, 0.0))  # type: ignore[arg-type]

    def count(text: str) -> int:
        return len(model.tokenizer.encode(text))

    def built() -> ChatPrompt:
        return build_prompt(
            said,
            stage,
            render=templates.render,
            count=count,
            room=N_CTX - NEW,
            keep=keep,
            literally=lambda value: value,
        )

    def read_ahead(typed: str) -> None:
        """As WorkAhead does: what is the same whatever follows."""
        known = []
        for ending in ENDINGS:
            add("user", typed + ending)
            known.append(model.tokenizer.encode(built().text))
            said.pop()
        for _ in model.generate(Request(known[0][: common_prefix(*known)], max_tokens=1, yields=True)):
            pass

    read: list[float] = []
    new: list[float] = []
    while len(read) < TURNS:
        text = " ".join(draw.choice(WORDS) for _ in range(MESSAGE))
        if ahead:
            read_ahead(text.rpartition(" ")[0])
        add("user", text)
        prompt = built()
        stream = model.generate(Request(model.tokenizer.encode(prompt.text), params, NEW))
        add("assistant", b"".join(token.data for token in stream).decode("utf-8", "replace"))
        if prompt.dropped:
            read.append(prompt.tokens - stream.report.reused_tokens)
            new.append(count(f"<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"))
    return read, new


def main() -> None:
    loader, threads = loader_named("llama.cpp"), default_threads()
    found = []
    for keep, shift, ahead in (
        (0.75, True, False), (0.75, False, True), (0.75, False, False), (0.5, False, False),
    ):  # fmt: skip
        options = {
            "n_ctx": N_CTX, "threads": threads, "threads_batch": threads, "parallel": 1, "context_shift": shift,
        }  # fmt: skip
        with loader.load(model_file(), loader.Options.parse(options), lambda *_: True) as model:
            read, new = turns(model, keep, ahead=ahead)
        how = f"truncation_keep {keep:g}{', context_shift' * shift}{', read while typed' * ahead}"
        # the mean is what counts: most turns read little, and some nearly everything
        sides = Side("read", [statistics.mean(read)]), Side("new", [statistics.mean(new)])
        bound = 1.3 if keep == 0.75 else None
        found.append(Figure("", f"prompt tokens per turn, {how}", "tokens", *sides, bound, at_most=True))
        print(found[-1].row(), flush=True)
    write("full_context", found, f"Means of {TURNS} turns. What follows a cut is read again, unless it is moved.")


if __name__ == "__main__":
    main()
