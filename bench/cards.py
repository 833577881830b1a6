"""Twenty loads and unloads with all layers on an RPC server as the GPU: memory still in use there and in our process.

python -m bench cards
"""

from __future__ import annotations

from bench.figure import Figure, Side, write
from bench.one_stream import model_file
from tests.loaders.llamacpp import rpc_cards
from tests.loaders.llamacpp.rpc_cards import Cards

LOADS, FIRST = 20, 2
MIB = 2**20


def main() -> None:
    cards = Cards(1)
    options = {"n_ctx": 1024, "threads": 1, "no_mmap": True, "n_gpu_layers": 99, "cache_capacity": "0"}
    left: list[tuple[int, int]] = []
    for number in range(FIRST + LOADS):
        own = cards.call(rpc_cards.load_and_count, model_file(), options)
        left.append((cards.taken()[0], own))
        print(f"  {number + 1}: {left[-1][0] / MIB:.2f} MiB in the server, {own / MIB:.2f} here", flush=True)
    cards.close()
    figures = []
    for which, where in enumerate(("the server", "our process")):
        values = [each[which] / MIB for each in left]
        figures.append(
            Figure(
                "", f"{LOADS} loads and unloads: memory in {where}", "MiB", Side("most later", [max(values[FIRST:])]),
                Side(f"after the first {FIRST}", [values[FIRST - 1]]), 1.02, at_most=True,
            )
        )  # fmt: skip
    write("cards", figures, "The demo model (98 MB) on an RPC server, by the C library's own count of allocations.")
