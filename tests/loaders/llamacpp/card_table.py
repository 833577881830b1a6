"""Writes the forecast table of docs/gpu.md: `python -m tests.loaders.llamacpp.card_table`.

Each row is a load on RPC servers (rpc_cards.py): what was forecast for each card, and what its server says was taken in
it. Models are the demo model, and true shapes of known families with fewer blocks, experts and words.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from installer.own_python import use_own_python

if __name__ == "__main__":
    use_own_python(Path(__file__).resolve().parents[3])

from loaders.llamacpp.placement.placement import MEMORY
from modules.library.demo_model import NAME
from tests.loaders.llamacpp import rpc_cards
from tests.loaders.llamacpp.rpc_cards import Cards, Told
from tests.zoo import families

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- cards: made by `python -m tests.loaders.llamacpp.card_table` -->\n", "<!-- /cards -->"
MIB = 2**20
SLACK, SHARE = 4 * MIB, 0.03

#: Kind -> the model of that kind, except for the demo model.
MODELS: Mapping[str, families.Family] = {
    "dense": families.small("Llama 3.1 8B", 3),
    "experts": replace(families.small("Qwen 3 30B-A3B", 4), experts=16),
    "windowed": families.small("Gemma 3 12B", 7),
    "windowed experts": replace(families.small("gpt-oss 20B", 4), experts=8),
    "hybrid": replace(families.small("Granite 4 H Small", 8), experts=8, used=4),
}


@dataclass(frozen=True)
class Row:
    """A model, its options, and on how many cards."""

    model: str
    options: Mapping[str, Any]
    cards: int = 1

    @property
    def label(self) -> tuple[str, str, str]:
        """As in the first columns of the table."""
        options = ", ".join(f"{name} {value}" for name, value in self.options.items()) or "all layers"
        return self.model, options, str(self.cards)


def _rows() -> Iterator[Row]:
    for model in ("demo", "dense"):
        yield Row(model, {})
        yield Row(model, {"n_gpu_layers": 3, "cache_type": "q8_0"})
        yield Row(model, {"no_offload_kqv": True})
        yield Row(model, {}, 2)
        yield Row(model, {"tensor_split": "1,3", "cache_type_k": "q8_0", "cache_type_v": "q5_1"}, 2)
    yield Row("demo", {"n_gpu_layers": 1})
    yield Row("dense", {"n_ubatch": 128, "flash_attn": "off"})
    yield Row("dense", {"split_mode": "none", "main_gpu": 1}, 2)
    for model in ("experts", "windowed experts"):
        yield Row(model, {})
        yield Row(model, {"n_cpu_moe": 2, "cache_type": "q4_0"})
        yield Row(model, {"cpu_moe": True}, 2)
        yield Row(model, {"n_gpu_layers": 3, "n_cpu_moe": 3})
    yield Row("experts", {"tensor_split": "3,1"}, 2)
    for model in ("windowed", "windowed experts"):
        yield Row(model, {"swa_full": False})
        yield Row(model, {"swa_full": False, "cache_type_k": "q5_0", "cache_type_v": "iq4_nl"}, 2)
    yield Row("windowed", {"n_gpu_layers": 4})
    yield Row("hybrid", {})
    yield Row("hybrid", {"n_gpu_layers": 3, "cache_type": "q5_1"})
    yield Row("hybrid", {}, 2)
    yield Row("hybrid", {"cpu_moe": True}, 2)
    for options in ({"n_cpu_moe": 1}, {"tensor_split": "3,1", "n_cpu_moe": 5}, {"n_ubatch": 16, "n_cpu_moe": 4}):
        yield Row("hybrid", options, 2)
    yield Row("windowed experts", {"n_cpu_moe": 1, "n_ctx": 2048}, 2)


ROWS: tuple[Row, ...] = tuple(_rows())


def made(model: str, folder: Path, demo: Path) -> Path:
    """The model's file."""
    path = folder / f"{model.replace(' ', '-')}.gguf"
    if model == "demo" or path.exists():
        return demo if model == "demo" else path
    return families.write(MODELS[model], path, words=True)


def loaded(row: Row, cards: Cards, path: Path) -> Told:
    """Forecast and load."""
    options = {"n_ctx": 4096, "threads": 1, "no_mmap": True, "n_gpu_layers": 99, **row.options}
    return cards.call(rpc_cards.load, path, options)


def compared(told: Told) -> list[tuple[int, int]]:
    """For each GPU in use: the bytes of the forecast, and the bytes taken."""
    forecast = [device.total for device in told.forecast.devices if device.name != MEMORY]
    used = [size for name, size in enumerate(told.reported) if told.taken.get(f"RPC{name}") and size > MIB]
    return list(zip(forecast, used, strict=True))


def within(forecast: int, taken: int) -> bool:
    return abs(forecast - taken) <= max(SHARE * taken, SLACK)


def table(found: Iterator[tuple[Row, Told]]) -> str:
    lines = ["| model | options | cards | forecast, MiB | taken, MiB | worst off by |", "| --- " * 6 + "|"]
    for row, told in found:
        pairs = compared(told)
        cells = [" + ".join(f"{pair[which] / MIB:.1f}" for pair in pairs) for which in (0, 1)]
        worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        off = f"{(worst[0] - worst[1]) / MIB:+.1f} MiB, {(worst[0] / worst[1] - 1) * 100:+.1f} %"
        mark = "" if all(within(*pair) for pair in pairs) else " **too far**"
        lines.append(f"| {' | '.join(row.label)} | {cells[0]} | {cells[1]} | {off}{mark} |")
        sys.stderr.write(lines[-1] + "\n")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The current table in the document."""
    return DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def _measured() -> Iterator[tuple[Row, Told]]:
    demo = next(path for folder in ("models", "cache/test-models") if (path := ROOT / folder / NAME).exists())
    sets: dict[int, Cards] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for row in ROWS:
                if row.cards not in sets:
                    sets[row.cards] = Cards(row.cards)
                yield row, loaded(row, sets[row.cards], made(row.model, Path(folder), demo))
        finally:
            for cards in sets.values():
                cards.close()


def into_document(make: Callable[[], str]) -> None:
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + make() + END + after, "utf-8")


if __name__ == "__main__":
    into_document(lambda: table(_measured()))
