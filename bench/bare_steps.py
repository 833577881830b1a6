"""Decoding steps of llama.cpp alone, without our code: the upper limit of our speed.

Runs in its own process (`python -m bench.bare_steps FILE THREADS ROWS STEPS`): a second OpenMP thread pool in the
process of an engine would slow both down.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import llama_cpp as C

from loaders.llamacpp.loader import engine_limits
from loaders.llamacpp.options import LlamaCppOptions

_N_CTX, _WARM = 8192, 16


def bare_speed(path: Path, threads: int, rows: int, steps: int = 96) -> float:
    """Steps per second, each of one token for this many sequences."""
    command = [sys.executable, "-m", "bench.bare_steps", path, threads, rows, steps]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measured(path: Path, threads: int, rows: int, steps: int) -> float:
    """As `bare_speed`, in this process.

    The context has the size of the engine's: the position of its buffers changes a step by about 5 %.
    """
    context = C.llama_context_default_params()
    limits = engine_limits(LlamaCppOptions.parse({"n_ctx": _N_CTX, "parallel": 4}))
    context.n_ctx, context.n_seq_max, context.kv_unified = _N_CTX, limits.sequences, True
    context.n_batch, context.n_outputs_max = limits.tokens, limits.rows
    context.n_threads = context.n_threads_batch = threads
    weights = C.llama_model_load_from_file(str(path).encode(), C.llama_model_default_params())
    pointer = C.llama_init_from_model(weights, context)
    batch = C.llama_batch_init(rows, 0, 1)
    batch.n_tokens = rows
    started = 0.0
    for position in range(steps + _WARM):
        if position == _WARM:  # warm-up
            started = time.perf_counter()
        for row in range(rows):
            batch.token[row], batch.pos[row], batch.n_seq_id[row] = 1000 + position, position, 1
            batch.seq_id[row][0], batch.logits[row] = row, True
        if C.llama_decode(pointer, batch):
            raise SystemExit("llama_decode failed.")
        C.llama_get_logits_ith(pointer, 0)
    speed = steps / (time.perf_counter() - started)
    C.llama_batch_free(batch)
    C.llama_free(pointer)
    C.llama_model_free(weights)
    return speed


if __name__ == "__main__":
    print(measured(Path(sys.argv[1]), *map(int, sys.argv[2:5])))
