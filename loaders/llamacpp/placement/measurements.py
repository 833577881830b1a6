"""Measurements of earlier loads and replies on this machine, in one small file by machine, driver and device: how much
more memory than in llama.cpp's breakdown a GPU or main memory loses, how much else is on a GPU, memory bandwidths, how
far replies were from their estimate, and how fast the attention kernels are. They correct the next forecast.

It stores values and measures nothing itself; it must not know llama.cpp. An unreadable file counts as empty.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import statistics
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from loaders.gpus import Gpu
from loaders.llamacpp.placement.placement import MEMORY

#: Another path of the file: for tests, and for read-only installations.
VARIABLE = "TEXTGEN_MEASURED"
_USUAL = Path(__file__).resolve().parents[3] / "cache" / "measured.json"
_KEPT, _DEVICES = 8, 64  # the latest values of each kind; of devices and kinds of models, the latest ones
_BEST_OF = 3  # measurements of a bandwidth
_TIMES = 2  # values required before a GPU's margin follows them
_SPARE = 128 * 2**20  # bytes kept free besides what was measured: a long chat may grow further
_SHARE = 4  # and at most this part of the GPU
_MEMORY_SHARE = 16  # kept of main memory, at most this part: other programs may have caused the measured use
_LARGEST = 2**50  # bytes, or bytes per second: higher values are invalid
_KERNELS = ("flash", "plain")
_FAR = 100.0  # a larger deviation of speed has another cause than this machine
#: The valid range of each kind of value, whoever wrote the file.
_BOUNDS = {"bandwidth": (0.0, _LARGEST), "pace": (1 / _FAR, _FAR), **dict.fromkeys(_KERNELS, (0.0, _LARGEST))}
_NVIDIA = Path("/proc/driver/nvidia/version")
_writing = threading.Lock()


class Measurements:
    """The file. May be used from several threads; if two programs write at once, one value may be lost."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(os.environ.get(VARIABLE) or _USUAL)

    # --- memory ---

    def note_idle(self, card: Gpu) -> None:
        """While none of our models is loaded: what is on a GPU then belongs to the desktop and other programs."""
        if not card.integrated:
            self._add(_device(card), "idle", card.total - card.free)

    def note_beyond(self, card: Gpu, size: int) -> None:
        """A load took this many bytes more than in llama.cpp's breakdown (fewer if negative)."""
        if not card.integrated:
            self._add(_device(card), "beyond", size)

    def margin(self, card: Gpu) -> int | None:
        """Bytes to keep free on a GPU: what loads took beyond the breakdown, and what other programs have used in
        addition to their current use. None if too little was measured.
        """
        beyond, idle = self._figures(_device(card), "beyond"), self._figures(_device(card), "idle")
        if card.integrated or len(beyond) < _TIMES:
            return None
        others = max(idle, default=0) - (card.total - card.free)
        return min(round(max(*beyond, 0) + max(others, 0)) + _SPARE, card.total // _SHARE)

    def margins(self, cards: Sequence[Gpu]) -> tuple[tuple[str, int], ...]:
        """The margins of the GPUs that have one, by name."""
        found = ((card.name, self.margin(card)) for card in cards)
        return tuple((name, size) for name, size in found if size is not None)

    def note_memory_beyond(self, size: int) -> None:
        """A load took this many bytes more of main memory than in llama.cpp's breakdown."""
        self._add(_device(None), "beyond", size)

    def memory_margin(self, total: int) -> int:
        """Bytes of main memory that loads usually take beyond the breakdown, `total` being its size.

        The median, because other work of this program during a load counts too; 0 if too little was measured.
        """
        beyond = self._figures(_device(None), "beyond")
        if len(beyond) < _TIMES:
            return 0
        return min(max(round(statistics.median(beyond)), 0), total // _MEMORY_SHARE)

    # --- speed ---

    def bandwidth(self, card: Gpu | None, measure: Callable[[], float]) -> float:
        """Bytes per second that a GPU reads (None: main memory): the best of several measurements, because the machine
        may be busy; 0 if none succeeded.
        """
        device = _device(card)
        if len(self._figures(device, "bandwidth")) < _BEST_OF:
            found = measure()
            if 0 < found < _LARGEST:
                self._add(device, "bandwidth", found)
        return self.known_bandwidth(card)

    def known_bandwidth(self, card: Gpu | None) -> float:
        """As above, without measuring."""
        return max(self._figures(_device(card), "bandwidth"), default=0.0)

    def note_pace(self, cards: Sequence[Gpu], kind: str, ratio: float) -> None:
        """Replies of models of this kind (its quantization) took `ratio` times the estimated time."""
        if 1 / _FAR < ratio < _FAR:
            self._add(_devices(cards), f"pace {kind}", ratio)

    def pace(self, cards: Sequence[Gpu], kind: str) -> float | None:
        """The factor by which replies take longer than estimated; None if not measured."""
        known = self._figures(_devices(cards), f"pace {kind}")
        return statistics.median(known) if known else None

    def attention_times(self, trial: str) -> Sequence[tuple[float, float]]:
        """Seconds with the flash kernel and without, as often as this trial was measured."""
        flash, plain = (self._figures(_device(None), f"{kernel} {trial}") for kernel in _KERNELS)
        return list(zip(flash, plain, strict=False))

    def note_attention_times(self, trial: str, seconds: tuple[float, float]) -> None:
        for kernel, each in zip(_KERNELS, seconds, strict=True):
            self._add(_device(None), f"{kernel} {trial}", each)

    # --- the file ---

    def _figures(self, device: str, kind: str) -> list[float]:
        found = self._read().get(device, {})
        figures = found.get(kind, []) if isinstance(found, dict) else []
        sound = (each for each in figures if type(each) in (int, float)) if isinstance(figures, list) else ()
        least, most = _BOUNDS.get(kind.partition(" ")[0], (-_LARGEST, _LARGEST))
        return [each for each in sound if least < each < most][-_KEPT:]  # NaN is not

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _add(self, device: str, kind: str, figure: float) -> None:
        with _writing:
            known = [*self._figures(device, kind), figure][-_KEPT:]
            found = self._read()
            before = found.pop(device, {})
            found[device] = {**(before if isinstance(before, dict) else {}), kind: known}
            last = dict(list(found.items())[-_DEVICES:])
            temporary = self._path.with_name(f".{secrets.token_hex(8)}.tmp")
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(json.dumps(last, indent=1), "utf-8")
                temporary.replace(self._path)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _device(card: Gpu | None) -> str:
    if card is None:
        return f"{machine_fingerprint()}, {MEMORY}"
    return f"{machine_fingerprint()}, {driver_version()}, {card.description or card.name}, {card.total >> 20} MiB"


def _devices(cards: Sequence[Gpu]) -> str:
    return " + ".join(map(_device, cards)) if cards else _device(None)


@lru_cache
def machine_fingerprint() -> str:
    """A fingerprint of this machine, for everything that affects speed and memory."""
    return f"{platform.node()} {platform.system()} {platform.machine()}, {os.cpu_count()} processors"


@lru_cache
def driver_version() -> str:
    """The version of NVIDIA's driver, else the system's release, which includes other drivers."""
    with suppress(OSError):
        if found := re.search(r"\d+(\.\d+)+", _NVIDIA.read_text("utf-8", "replace")):
            return f"NVIDIA {found[0]}"
    if tool := shutil.which("nvidia-smi"):
        query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError, IndexError):
            told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
            return f"NVIDIA {told.split()[0]}"
    return platform.release()
