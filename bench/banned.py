"""What banned strings cost, and whether any of them ever appears.

500 phrases that English stories are full of, among them beginnings of very common words, so that tokens are held back
all the time. Both sides write the same number of tokens; those that were taken back are not counted.
"""

from __future__ import annotations

import sys
from collections import Counter

from bench.figure import Figure, Side, in_turn, write
from bench.one_stream import default_threads, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

TOKENS, ROUNDS, STRINGS = 160, 11, 500
SEEDS, LENGTH = 1000, 40
SAMPLING = SamplingParams(temperature=0.8, min_p=0.05, ban_eos_token=True)
_STORY = "Once upon a time there was a girl who lived with her grandmother in a house at the edge of the forest. "

_BEGINNINGS = (
    "a", "the", "her", "his", "she was", "he was", "it was", "in the", "of the", "to the", "and the", "with a",
)  # fmt: skip
_MIDDLES = ("testament to", "mix of", "sense of", "hint of", "whisper of", "dance of", "tapestry of", "symphony of")
_ENDINGS = ("courage", "hope and fear", "light", "the night", "unease", "wonder", "the past")


def phrases(count: int) -> list[str]:
    """So many phrases of several words, whose beginnings are very common."""
    found = [f"{a} {b} {c}" for a in _BEGINNINGS for b in _MIDDLES for c in _ENDINGS]
    return found[:: max(len(found) // count, 1)][:count]


def speed(model: Model, seed: int, banned: str) -> float:
    """Tokens per second of one reply."""
    ids = model.tokenizer.encode(_STORY)
    stream = model.generate(Request(ids, SAMPLING.changed(seed=seed, banned_strings=banned), TOKENS))
    count = len(list(stream))
    return (count - 1) / stream.report.decode_seconds


def common_phrases(model: Model, count: int) -> list[str]:
    """The phrases of three words that this model writes most often here: what is hardest to avoid."""
    ids, found = model.tokenizer.encode(_STORY), Counter[str]()
    for seed in range(40):
        stream = model.generate(Request(ids, SAMPLING.changed(seed=seed), TOKENS))
        words = b"".join(token.data for token in stream).decode("utf-8", "replace").split()
        found.update({" ".join(words[at : at + 3]) for at in range(len(words) - 2)})
    return [phrase for phrase, _ in found.most_common(count)]


def seeds(model: Model, strings: list[str]) -> tuple[int, int, int, int]:
    """Of SEEDS replies: how many contain a string, how many had a warning, tokens written and tokens taken back."""
    ids, banned = model.tokenizer.encode(_STORY), "\n".join(strings)
    appeared = stuck = written = back = 0
    for seed in range(SEEDS):
        stream = model.generate(Request(ids, SAMPLING.changed(seed=seed, banned_strings=banned), LENGTH))
        text = b"".join(token.data for token in stream).decode("utf-8", "replace").lower()
        appeared += any(each.lower() in text for each in strings)
        stuck += bool(stream.report.warnings)
        written += stream.report.new_tokens
        back += stream.report.taken_back
    return appeared, stuck, written, back


def main() -> None:
    rounds = int(sys.argv[-1]) if sys.argv[-1].isdigit() else ROUNDS
    loader, threads = loader_named("llama.cpp"), default_threads()
    options = loader.Options.parse({"n_ctx": 2048, "threads": threads, "threads_batch": threads})
    with loader.load(model_file(), options, lambda *_: True) as model:
        listed = "\n".join(phrases(STRINGS))
        numbers = iter(range(10**6))
        with_list, without = in_turn(
            rounds, lambda: speed(model, next(numbers), listed), lambda: speed(model, next(numbers), "")
        )
        common = common_phrases(model, 50)
        appeared, stuck, written, back = seeds(model, common)
    figures = [
        Figure(
            "cost", f"{STRINGS} banned strings", "tokens/s", Side("with", with_list), Side("without", without), 0.97
        ),
        Figure(
            "none", f"{SEEDS} seeds without any of the 50 most common phrases", "replies",
            Side("without", [SEEDS - appeared]), Side("all", [SEEDS]), 1.0,
        ),
        Figure("ends", "of them without a dead end", "replies", Side("so", [SEEDS - stuck]), Side("all", [SEEDS]), 1.0),
    ]  # fmt: skip
    notes = (
        f"{threads} threads, temperature 0.8, min_p 0.05. In the {SEEDS} replies of {LENGTH} tokens, {back:,} tokens "
        f"were taken back and {written:,} stayed."
    )
    write("banned", figures, notes)


if __name__ == "__main__":
    main()
