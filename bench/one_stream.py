"""Tokens per second of one conversation, from model to text, compared with llama-cpp-python's high-level loop.

Same file, same threads, same prompt, same samplers, in one process, alternately. Ours goes the whole way of a message:
generator, queue, stop strings, UTF-8.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from bench.figure import ROOT, Figure, Side, in_turn, write
from loaders import LOADERS
from loaders.params import SamplingParams
from modules.config.paths import Paths
from modules.generation.generator import Generator
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings

TOKENS = 256
PROMPT = "<|im_start|>user\nWrite a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
PARAMS = SamplingParams(temperature=0.7, top_p=0.9, top_k=20, repetition_penalty=1.15, seed=1, ban_eos_token=True)


def model_file() -> Path:
    """The demo model, from models/ or from the tests' cache."""
    for folder in (ROOT / "models", ROOT / "cache" / "test-models"):
        for path in folder.glob("SmolLM2-135M-Instruct.Q4_1.gguf"):
            return path
    raise SystemExit("The demo model does not exist yet: start the program once, or run ./run_tests.sh.")


def default_threads() -> int:
    """All cores for both sides: what the loader measures for itself depends on the other load."""
    return psutil.cpu_count(logical=False) or 1


def main() -> None:
    from llama_cpp import Llama

    path = model_file()
    threads = default_threads()
    paths = Paths.under(ROOT, model_dir=path.parent)
    models = ModelManager(paths, ModelCatalog(paths), ModelSettings(paths), LOADERS, {})
    models.load(path.name, options={"threads": threads, "threads_batch": threads, "n_ctx": 2048})
    session = Generator(models).session()
    peer_model = Llama(
        str(path), n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False, flash_attn=True
    )

    def ours() -> float:
        first = count = 0.0
        with session.start(PROMPT, PARAMS, max_tokens=TOKENS) as stream:
            for piece in stream:
                first = first or time.perf_counter()
                count += len(piece.tokens)
        return (count - 1) / (time.perf_counter() - first)

    def peer() -> float:
        first = count = 0.0
        for _ in peer_model.create_completion(
            PROMPT, max_tokens=TOKENS, temperature=0.7, top_p=0.9, min_p=0.0, top_k=20, repeat_penalty=1.15, seed=1,
            stream=True, logit_bias={0: -1e9, 2: -1e9, 4: -1e9},
        ):  # fmt: skip
            first = first or time.perf_counter()
            count += 1
        return (count - 1) / (time.perf_counter() - first)

    a, b = in_turn(9, ours, peer)
    models.unload()
    write(
        "one_stream",
        [
            Figure(
                "one_stream",
                "one streamed conversation, model to text",
                "tokens/s",
                Side("this program", a),
                Side("llama-cpp-python, high-level API", b),
                0.97,
                at_most=False,
            )
        ],
        f"SmolLM2-135M-Instruct Q4_1, {threads} threads, {TOKENS} tokens, preset simple-1.",
    )
