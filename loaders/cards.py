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

from errors import LoadCancelled, Unavailable
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
        return _asked()
    except (child.Crashed, KeyError, OSError):
        return ()


def check_that_they_answer() -> None:
    """To be called before llama.cpp asks the cards in this process, which one that is gone would end.

    Raises: Unavailable.
    """
    if not _may_find_cards():
        return
    try:
        _asked()
    except (child.Crashed, KeyError, OSError) as error:
        why = f" ({error})" if isinstance(error, child.Crashed) else ""
        raise Unavailable(
            f"A graphics card does not answer{why}. Connect it again, or restart its driver or the machine; with the "
            "option cpu no card is asked."
        ) from None


def _asked() -> tuple[Card, ...]:
    """Raises: Crashed, OSError; KeyError, where there is no answer."""
    try:
        told = child.run("loaders.llamacpp.devices", {})
    except LoadCancelled:
        told = None
    return tuple(Card(*each) for each in (told or {})["cards"])


@lru_cache(maxsize=1)
def _may_find_cards() -> bool:
    """Whether llama.cpp was built for any card, or finds some in the network: else it need not be asked."""
    if os.environ.get(child.SERVERS):
        return True
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
