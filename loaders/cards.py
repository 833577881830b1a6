"""What the graphics cards have free: as llama.cpp finds them, which plans by that, else as NVIDIA's driver tells.

No engine is imported into this process.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from errors import LoadCancelled
from loaders.llamacpp import child
from loaders.llamacpp.placement import Card

_NO_CARD = re.compile(r"ggml-(?:base|cpu.*|rpc|blas)$")  # libraries of llama.cpp's that reach no graphics card


@dataclass(frozen=True)
class CardMemory:
    """Free bytes of all cards that count together. `shared`: of the machine's own memory (an integrated card)."""

    free: int
    shared: bool = False


def card_memory() -> CardMemory | None:
    """What is free now; None without a card."""
    found = llama_cards() if _may_find_cards() else ()
    if found:
        return CardMemory(sum(card.free for card in found), all(card.integrated for card in found))
    free = free_card_memory()
    return CardMemory(free) if free else None


def llama_cards() -> tuple[Card, ...]:
    """The cards that llama.cpp would use, asked in a process of its own; () where it does not tell."""
    try:
        told = child.run("loaders.llamacpp.devices", {})
    except (child.Crashed, LoadCancelled, OSError):
        return ()
    return tuple(Card(*each) for each in told["cards"]) if told else ()


@lru_cache(maxsize=1)
def _may_find_cards() -> bool:
    """Whether llama.cpp was built for any card: else it need not be asked."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.origin:
        return False
    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH", Path(spec.origin).parent / "lib"))
    names = {path.name.partition(".")[0].removeprefix("lib") for path in folder.glob("*ggml-*")}
    return any(not _NO_CARD.match(name) for name in names)


def free_card_memory() -> int | None:
    """Free bytes of all NVIDIA cards together; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
        return sum(int(line) for line in told.split()) * 2**20 or None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
