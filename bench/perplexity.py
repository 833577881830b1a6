"""Perplexity compared with llama-perplexity: same file, text, context and windows; the values and the speed.

Also Transformers compared with a plain loop over the same weights, in the folder that the tests create from the demo
model.
"""

from __future__ import annotations

import math
import re
import subprocess
import time
from pathlib import Path

from bench.figure import ROOT, Figure, Side, in_turn, write
from bench.llama_programs import environment, program
from loaders import loader_named
from loaders.base import Model
from modules.training.perplexity.measure import WindowPlan, measure_perplexity

TEXT = Path("/usr/share/common-licenses/GPL-3")
CONTEXT = 512
#: As in llama.cpp's log, from its start: minutes, seconds, thousandths, millionths.
_CLOCK = r"(\d+)\.(\d+)\.(\d+)\.(\d+)"
FOLDER = ROOT / "cache" / "test-models" / "SmolLM2-135M-Instruct"


def ours(model: Model, text: str) -> tuple[float, float]:
    """(perplexity, tokens per second)."""
    started = time.perf_counter()
    *_, result = measure_perplexity(model, text, WindowPlan(max_length=CONTEXT, way="halves"))
    return result.perplexity, result.windows * CONTEXT / (time.perf_counter() - started)


def theirs(model: Path, text: Path) -> tuple[float, float]:
    """(perplexity, tokens per second) as llama-perplexity prints them."""
    path = program("llama-perplexity")
    command = [path, "-m", str(model), "-f", str(text), "-c", str(CONTEXT), "-b", str(CONTEXT), "-t", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(path))
    said = ran.stdout + ran.stderr
    found = re.search(r"Final estimate: PPL = ([\d.]+)", said)
    begun = re.search(rf"{_CLOCK} I perplexity: calculating perplexity over (\d+) chunks", said)
    ended = re.search(rf"{_CLOCK} I Final estimate", said)
    if not (found and begun and ended):
        raise SystemExit(said[-2000:])
    return float(found[1]), int(begun[5]) * CONTEXT / (_seconds(ended) - _seconds(begun))


def _seconds(clock: re.Match[str]) -> float:
    minutes, seconds, thousandths, millionths = (int(clock[place]) for place in range(1, 5))
    return 60 * minutes + seconds + thousandths / 1e3 + millionths / 1e6


def by_transformers(text: str) -> tuple[float, float]:
    """The perplexity by our loader, and by the loop of transformers' documentation; the same windows."""
    import torch
    from transformers import AutoModelForCausalLM

    loader = loader_named("Transformers")
    with loader.load(FOLDER, loader.Options.parse({"max_seq_len": CONTEXT}), lambda _fraction, _doing: True) as model:
        *_, result = measure_perplexity(model, text, WindowPlan(stride=CONTEXT // 2))
    bare = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    ids = torch.tensor([list(result.ids)])
    total, count, before = 0.0, 0, 0
    for begin in range(0, ids.shape[1], CONTEXT // 2):
        end = min(begin + CONTEXT, ids.shape[1])
        given = ids[:, begin:end]
        labels = given.clone()
        labels[:, : max(before - begin, 0)] = -100
        with torch.no_grad():
            loss = bare(given, labels=labels).loss
        scored = int((labels[:, 1:] != -100).sum())
        total, count, before = total + float(loss) * scored, count + scored, end
        if end == ids.shape[1]:
            break
    return result.perplexity, math.exp(total / count)


def main() -> None:
    places = (ROOT / "models", ROOT / "cache" / "test-models")
    file = next(file for place in places for file in place.glob("SmolLM2-135M-Instruct*.gguf"))
    text = TEXT.read_text("utf-8")
    loader = loader_named("llama.cpp")
    options = loader.Options.parse(
        {"n_ctx": CONTEXT, "threads": 2, "threads_batch": 2, "n_batch": CONTEXT, "parallel": 1}
    )
    with loader.load(file, options, lambda _fraction, _doing: True) as model:
        mine: list[tuple[float, float]] = []
        peer: list[tuple[float, float]] = []

        def run_ours() -> float:
            mine.append(ours(model, text))
            return mine[-1][1]

        def run_theirs() -> float:
            peer.append(theirs(file, TEXT))
            return peer[-1][1]

        speeds = in_turn(3, run_ours, run_theirs)
    a, b = Side("ours", [each[0] for each in mine]), Side("llama-perplexity", [each[0] for each in peer])
    apart = abs(a.values[0] / b.values[0] - 1) * 100
    what = f"perplexity of {file.stem} on GPL-3, context {CONTEXT}"
    both = by_transformers(text[:12000])
    ways = Side("ours", speeds[0]), Side("llama-perplexity", speeds[1])
    write(
        "perplexity",
        [
            Figure("perplexity", what, "", a, b, 1.002, at_most=True),
            Figure("perplexity", "tokens read and scored", "tokens/s", *ways, 0.95),
            Figure(
                "perplexity",
                "Transformers, 12,000 characters, stride 256",
                "",
                Side("ours", [both[0]]),
                Side("a plain loop", [both[1]]),
                1.001,
                at_most=True,
            ),
        ],
        f"llama.cpp's are {apart:.4f} % apart (at most 0.2 % required), transformers' "
        f"{abs(both[0] / both[1] - 1) * 100:.4f} % (at most 0.1 %).",
    )
