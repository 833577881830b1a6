"""The free memory of GPUs: as llama.cpp reports it, which plans with it, else as NVIDIA's driver does.

No engine is imported into this process.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from errors import LoadCancelled, Unavailable
from loaders.llamacpp import child_process, rpc

_NO_CARD = re.compile(r"ggml-(?:base|cpu.*|rpc|blas)$")  # libraries of llama.cpp that support no GPU
_PATIENCE = 60.0  # seconds for an answer of other machines


class Gpu(NamedTuple):
    """A GPU as llama.cpp sees it. `free`, `total`: bytes; an integrated one's memory is the machine's."""

    name: str  # llama.cpp's: CUDA0
    free: int
    total: int
    description: str = ""  # the manufacturer's name
    integrated: bool = False
    rows: bool = False  # whether matrices can be split over GPUs of this kind


@dataclass(frozen=True)
class GpuMemory:
    """Free bytes of all GPUs that can be used together. `shared`: of the machine's own memory (an integrated GPU)."""

    free: int
    shared: bool = False
    cards: tuple[Gpu, ...] = field(default=(), compare=False)  # one by one, if llama.cpp finds them


def free_gpu_memory() -> GpuMemory | None:
    """What is free now; None without a GPU."""
    found = list_llama_gpus() if _may_find_cards() else ()
    if found:
        return GpuMemory(sum(card.free for card in found), all(card.integrated for card in found), found)
    free = nvidia_free_memory()
    return GpuMemory(free) if free else None


def list_llama_gpus() -> tuple[Gpu, ...]:
    """The GPUs that llama.cpp would use, queried in a separate process; () if it gives no answer."""
    try:
        return _asked()
    except (child_process.ChildCrashed, KeyError, OSError):
        return ()


def check_gpus_respond(machines: Sequence[str] = ()) -> None:
    """To be called before llama.cpp queries the GPUs in this process, which a failed one would crash. `machines`: the
    addresses of others that lend theirs.

    Raises: Unavailable; Unsupported, for machines that this llama.cpp cannot use.
    """
    rpc.check_machines(machines)
    if not (machines or _may_find_cards()):
        return
    try:
        _asked(machines)
    except (child_process.ChildCrashed, KeyError, OSError) as error:
        why = f" ({error})" if isinstance(error, child_process.ChildCrashed) else ""
        raise Unavailable(
            f"A GPU does not respond{why}. Reconnect it, or restart its driver or the machine. With the option "
            "cpu, no GPU is used."
        ) from None


def _asked(machines: Sequence[str] = ()) -> tuple[Gpu, ...]:
    """Raises: ChildCrashed, OSError; KeyError, where there is no answer; Unavailable, for one of the machines."""
    until = time.monotonic() + (_PATIENCE if machines else math.inf)
    question = {"machines": list(machines)}
    try:
        told = child_process.ask_child("loaders.llamacpp.placement.devices", question, lambda: time.monotonic() < until)
    except LoadCancelled:
        told = None
    if told and (refused := told.get("refused")):
        raise Unavailable(refused)
    return tuple(Gpu(*each) for each in (told or {})["cards"])


@lru_cache(maxsize=1)
def _may_find_cards() -> bool:
    """Whether llama.cpp was built for any GPU: otherwise it need not be queried."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.origin:
        return False
    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH", Path(spec.origin).parent / "lib"))
    names = {path.name.partition(".")[0].removeprefix("lib") for path in folder.glob("*ggml-*")}
    return any(not _NO_CARD.match(name) for name in names)


def nvidia_free_memory() -> int | None:
    """Free bytes of all NVIDIA GPUs together; None if there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
        return sum(int(line) for line in told.split()) * 2**20 or None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
