"""What a chat's next step costs with models whose memory cannot be truncated: hybrid, recurrent and windowed ones.

`python -m bench turns` measures a chat of 2,000 tokens: regenerating, editing the last message, and the next turn after
a thought that the history drops; each compared with reading the prompt anew, and with llama-server's checkpoints. The
models are random ones (tests/zoo); the peer is that of bench.llama_server.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.figure import Figure, Side, write
from bench.llama_server import Run, ask_ours, ask_peer, llama_server
from bench.one_stream import default_threads
from loaders import loader_named
from loaders.base import Model
from tests.zoo import ggufs

MODELS = ("jamba", "lfm2", "mamba2", "gemma3", "gptoss")
LENGTH, MESSAGE, REPLY, ROUNDS, N_CTX = 2000, 60, 24, 5, 8192
STEPS = ("regenerate", "edit of the last message", "next turn after a dropped thought")

Ask = Callable[[list[int], int], Run]


class Chats:
    """Chats of a model in ChatML, of random words."""

    def __init__(self, model: Model, seed: int) -> None:
        self._encode = model.tokenizer.encode
        self._draw = random.Random(seed)

    def words(self, count: int) -> list[int]:
        return [self._draw.randrange(40, 1000) for _ in range(count)]

    def message(self, role: str, words: list[int]) -> list[int]:
        return [*self._encode(f"<|im_start|>{role}\n"), *words, *self._encode("<|im_end|>\n")]

    def history(self) -> list[int]:
        """Messages of about LENGTH tokens together, the last one the assistant's."""
        found: list[int] = []
        while len(found) < LENGTH - MESSAGE:
            found += self.message("user", self.words(MESSAGE)) + self.message("assistant", self.words(2 * MESSAGE))
        return found

    def opening(self) -> list[int]:
        return self._encode("<|im_start|>assistant\n")


def seconds(chats: Chats, ask: Ask) -> dict[str, float]:
    """Seconds to the first token of each step, and of the cold prompt before them."""
    history, opening = chats.history(), chats.opening()
    prompt = history + chats.message("user", chats.words(MESSAGE)) + opening
    found = {"cold": ask(prompt, REPLY).to_first}
    for _ in range(2):  # the first one may be prepared for
        found["regenerate"] = ask(prompt, REPLY).to_first
    edited = history + chats.message("user", chats.words(MESSAGE)) + opening
    found["edit of the last message"] = ask(edited, REPLY).to_first
    said = edited[: -len(opening)] + chats.message("assistant", chats.words(REPLY))
    turn = said + chats.message("user", chats.words(MESSAGE)) + opening
    found["next turn after a dropped thought"] = ask(turn, REPLY).to_first
    return found


def figures(name: str, folder: Path) -> list[Figure]:
    recipe = json.loads((ggufs.RECIPES / f"{name}.json").read_text("utf-8"))
    room = {f"{recipe['architecture']}.context_length": N_CTX}  # llama-server gives no chat more than that
    file, threads = ggufs.make(name, folder, changes=room), default_threads()
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": N_CTX, "threads": threads, "threads_batch": threads, "parallel": 1})
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with (
        loader.load(file, options, lambda *_: True) as model,
        llama_server(threads, parallel=1, n_ctx=N_CTX, model=file) as url,
    ):
        for turn in range(ROUNDS + 1):  # the first one warms up
            for into, ask in (
                (ours, lambda prompt, new: ask_ours(model, prompt, new)),
                (theirs, lambda prompt, new: ask_peer(url, prompt, new)),
            ):
                into.append(seconds(Chats(model, turn), ask))
    found = []
    for step in STEPS:
        warm = Side("ours", [each[step] for each in ours[1:]])
        cold = Side("ours, read anew", [each["cold"] for each in ours[1:]])
        peer = Side("llama-server", [each[step] for each in theirs[1:]])
        found.append(Figure("", f"{name}: {step}", "s", warm, cold, 0.1, at_most=True))
        found.append(Figure("", f"{name}: {step}", "s", warm, peer, 1.0, at_most=True))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = [figure for name in MODELS for figure in figures(name, Path(folder))]
    write("turns", found, "The engine in process against llama-server over HTTP; seconds to the first token.")


if __name__ == "__main__":
    main()
