"""The memory of every placement of the families on one GPU, by dry runs of llama.cpp on their headers (families.py).

`python -m tests.zoo.family_sizes` asks it on an RPC server and writes families.json; `... two FAMILY ...` looks for
better placements on two cards than those that were chosen, and prints what it finds. Tests try the choice on what was
written.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from installer.own_python import use_own_python

if __name__ == "__main__":
    use_own_python(Path(__file__).resolve().parents[2])

from loaders.gpus import Gpu
from loaders.llamacpp.placement import search
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, Placement
from tests.zoo import families

WRITTEN = Path(__file__).parent / "families.json"
OPTIONS = {"n_ctx": 8192, "parallel": 2}
GB = 10**9
_CASES = 4  # of each family on two cards


def ways(shape: search.ModelShape) -> Iterator[Placement]:
    """All that may be chosen on one card, from the best to the worst."""
    everything = shape.blocks + 1
    for experts in range(shape.experts + 1):
        yield Placement(everything, experts, ("C0",))
    for layers in range(shape.blocks, 0, -1):
        yield Placement(layers, shape.experts, ("C0",))


def key(placement: Placement) -> str:
    return f"{placement.layers}/{placement.experts}"


def asker(path: Path) -> tuple[search.ModelShape, Any]:
    """The shape of a file, and what asks llama.cpp in this process. Called where there are cards."""
    from loaders.llamacpp import native
    from loaders.llamacpp.gguf import read_header
    from loaders.llamacpp.loader import engine_limits
    from loaders.llamacpp.options import LlamaCppOptions
    from loaders.llamacpp.placement import devices, dry_run, planning
    from tests.loaders.llamacpp import rpc_cards

    native.initialize()
    names = [card.name for card in devices.list_gpus(rpc_cards.machines())]
    options = LlamaCppOptions.parse(OPTIONS)
    limits = engine_limits(options)
    plan = planning.plan_load(read_header(path), options, limits, limits.copies).attended(options.flash_attn)
    shape = search.ModelShape(plan.header.n_layers, plan.header.n_expert_blocks)
    question = dry_run.DryRunRequest((str(path),), tuple(sorted(plan.context.items())))

    def measure(placement: Placement) -> MemoryByDevice:
        used = {f"C{number}": name for number, name in enumerate(names)}
        cards = tuple(used[name] for name in placement.cards)
        real = Placement(placement.layers, placement.experts, cards, placement.split)
        found = dry_run.measure_placement(question, real)
        back = {name: made for made, name in used.items()}
        return {back.get(name, name): size for name, size in found.items()}

    return shape, measure


def of_family(name: str, folder: Path) -> tuple[list[int], dict[str, list[int]]]:
    """Shape and sizes of all placements, as they are written."""
    shape, measure = asker(families.write(families.FAMILIES[name], folder / f"{name}.gguf"))
    rows = {}
    for placement in (*ways(shape), Placement()):
        found = measure(placement)
        memory, card = found[MEMORY], found.get("C0", DeviceMemory())
        rows[key(placement)] = [
            memory.weights, memory.cache, memory.buffers, memory.rearranged, card.weights, card.cache, card.buffers,
        ]  # fmt: skip
    return [shape.blocks, shape.experts], rows


def read() -> Mapping[str, tuple[search.ModelShape, Mapping[str, MemoryByDevice]]]:
    """What was written."""
    found = {}
    for name, (shape, rows) in json.loads(WRITTEN.read_text("utf-8")).items():
        sizes = {at: {MEMORY: DeviceMemory(*row[:4]), "C0": DeviceMemory(*row[4:])} for at, row in rows.items()}
        found[name] = (search.ModelShape(*shape), sizes)
    return found


def over(sizes: MemoryByDevice, cards: Sequence[Gpu]) -> int:
    """By how many bytes the fullest card is over what it has free less its margin."""
    margins = search.safety_margins(search.PlacementRequest(), cards)
    return max(sizes[card.name].total + margins[card.name] - card.free for card in cards if card.name in sizes)


def on_two(name: str, folder: Path, seed: int) -> tuple[str, int]:
    """What is chosen on two cards by chance, and how many layers more than that would fit, up to two; or, with all of
    them there, with how many experts' layers fewer in main memory. Shares are tried at every layer.
    """
    shape, measure = asker(families.write(families.FAMILIES[name], folder / f"{name}.gguf"))
    chance = random.Random(seed)
    cards = [Gpu(f"C{number}", free, free) for number in (0, 1) for free in [round(chance.uniform(2, 14) * GB)]]
    found, sizes = search.find_best_placement(search.PlacementRequest(), shape, cards, 10**12, measure)
    assert not found.layers or over(sizes, cards) <= 0, (name, cards, found)
    told = f"{shape.blocks} blocks, {name} on {' and '.join(f'{card.free / GB:.1f}' for card in cards)} GB: {found}"
    everything = shape.blocks + 1
    for more in (2, 1):
        layers, experts = found.layers + more, shape.experts
        if found.layers == everything:
            layers, experts = everything, found.experts - more
        for first in range(1, layers) if layers <= everything and experts >= 0 else ():
            split = ((first - 0.5) / layers, 1 - (first - 0.5) / layers)
            if over(measure(Placement(layers, experts, ("C0", "C1"), split)), cards) <= 0:
                return told, more
    return told, 0


def main(arguments: Sequence[str]) -> None:
    from tests.loaders.llamacpp.rpc_cards import Cards

    two = "two" in arguments
    cards = Cards(2 if two else 1)
    written = {}
    with tempfile.TemporaryDirectory() as made:
        for number, name in enumerate(families.FAMILIES):
            if two and name in (arguments[1:] or families.FAMILIES):
                for seed in range(number, number + 100 * _CASES, 100):
                    sys.stdout.write(f"{cards.call(on_two, name, Path(made), seed)}\n")
                    sys.stdout.flush()
            elif not two:
                written[name] = cards.call(of_family, name, Path(made))
                sys.stdout.write(f"{name}: {len(written[name][1])}\n")
            sys.stdout.flush()
    cards.close()
    if not two:
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in written.items())
        WRITTEN.write_text("{\n" + rows + "\n}\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
