"""The memory that a load has actually taken, compared with the forecast as text, and what llama.cpp does not report."""

from __future__ import annotations

from collections.abc import Mapping

from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import planning
from loaders.llamacpp.placement.memory_watch import process_bytes
from loaders.llamacpp.placement.placement import MEMORY, DeviceMemory, MemoryByDevice, gpu_titles
from loaders.llamacpp.placement.planning import PlannedPlacement


def unaccounted_memory(
    before: int | None, held: MemoryByDevice, options: GGUFOptions, place: PlannedPlacement
) -> int | None:
    """Bytes of main memory that this process has taken since `before`, minus those that llama.cpp reports.

    Weights count if they are not the file's own pages; buffers do not, because almost none of their pages have been
    used yet. None if unknown, or if a GPU's memory is the machine's.
    """
    now = process_bytes()
    if before is None or now is None or any(card.integrated for card in planning.used_gpus(place)):
        return None
    told = held.get(MEMORY, DeviceMemory())
    return now - before - told.cache - (told.weights if options.no_mmap else told.rearranged)


def usage_by_gpu(account: Mapping[str, int], place: PlannedPlacement) -> dict[str, tuple[int, int]]:
    """For each GPU in use, by its title: the bytes there, and the forecast."""
    forecast = {name: size.total for name, size in (place.sizes or {}).items()}
    called = gpu_titles(place.cards)
    return {called[name]: (size, forecast.get(name, 0)) for name, size in account.items() if size and name in called}


def describe_memory_use(sizes: Mapping[tuple[str, str], int], by_card: Mapping[str, tuple[int, int]]) -> str:
    """llama.cpp's own report of its memory. `by_card`: bytes on each GPU, by its title, and the forecast (0: none)."""
    kinds = {"weights": ("model",), "context": ("KV", "RS"), "buffers": ("compute", "output")}
    amounts = {name: sum(size for (_, kind), size in sizes.items() if kind in of) for name, of in kinds.items()}
    told = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in amounts.items())
    on_cards = " and ".join(
        f"{size / 1e9:.2f} GB on {title}" + (f" (forecast {expected / 1e9:.2f})" if expected else "")
        for title, (size, expected) in by_card.items()
    )
    return f"memory used: {sum(amounts.values()) / 1e9:.2f} GB ({told})" + (
        f", including {on_cards}" if on_cards else ""
    )
