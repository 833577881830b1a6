"""A model over two RPC nodes on this machine: the same greedy text as without, and each one's memory against the
forecast.

python -m bench rpc
"""

from __future__ import annotations

from bench.figure import Figure, Side, write
from bench.one_stream import model_file
from tests.loaders.llamacpp import rpc_cards
from tests.loaders.llamacpp.rpc_cards import Cards

MIB = 2**20
#: One attention kernel everywhere: the CPU's own choice rounds differently.
OPTIONS = {"n_ctx": 4096, "threads": 1, "no_mmap": True, "flash_attn": "on", "kv_disk": "0"}
PROMPT, TOKENS = [100, 200, 300, 400, 500], 64


def main() -> None:
    cards = Cards(2)
    try:
        alone = cards.call(rpc_cards.load, model_file(), {**OPTIONS, "cpu": True}, PROMPT, TOKENS)
        told = cards.call(rpc_cards.load, model_file(), {**OPTIONS, "n_gpu_layers": 99}, PROMPT, TOKENS)
    finally:
        cards.close()
    same = next((at for at, pair in enumerate(zip(alone.reply, told.reply, strict=True)) if len({*pair}) > 1), TOKENS)
    figures = [
        Figure(
            "",
            "greedy text over two nodes",
            "tokens",
            Side("equal from the first", [same]),
            Side("written", [TOKENS]),
            1.0,
        )
    ]
    for number, (forecast, taken) in enumerate(zip(told.forecast.devices[1:], told.reported, strict=True), start=1):
        most, least = max(forecast.total, taken) / MIB, min(forecast.total, taken) / MIB
        names = ("forecast", "taken") if forecast.total >= taken else ("taken", "forecast")
        sides = Side(names[0], [most]), Side(names[1], [least])
        figures.append(Figure("", f"memory of node {number}", "MiB", *sides, 1.05, at_most=True))
    write(
        "rpc",
        figures,
        "The demo model with all layers on two nodes of `loaders.llamacpp.rpc_node` on loopback; taken is by the C "
        "library's own count of allocations. Both sides of a node's row are ours: the larger value is first.",
    )


if __name__ == "__main__":
    main()
