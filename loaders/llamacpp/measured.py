"""What loads and replies on this machine have taught, kept in one small file by machine, driver and device: how much
more than llama.cpp's account a card loses, how much else lies on it, how fast memory is read, how far replies were from
what was expected. The next forecast is corrected by it.

It is told, and measures nothing itself; it must not know llama.cpp. A file that cannot be read or written is as none.
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
from math import isfinite
from pathlib import Path
from typing import Any

from loaders.llamacpp.placement import MEMORY, Card

#: Another place for the file: for tests, and for installations that must not be written to.
VARIABLE = "TEXTGEN_MEASURED"
_USUAL = Path(__file__).resolve().parents[2] / "cache" / "measured.json"
_KEPT, _DEVICES = 8, 64  # of each kind the last figures; of devices and kinds of models those that came last
_BEST_OF = 3  # measurements of a bandwidth
_TIMES = 2  # figures that there must be before a card's margin follows them
_SPARE = 128 * 2**20  # bytes kept free beside what was measured: what grows in a long chat was perhaps never seen
_SHARE = 4  # and at most that part of the card
_LARGEST = 2**50  # bytes, or bytes a second: more than that is no figure
_FAR = 100.0  # a pace so many times off has another reason than this machine's speed
_NVIDIA = Path("/proc/driver/nvidia/version")
_writing = threading.Lock()


class Measured:
    """The file. May be used from several threads; of two programs that write at once, one figure may be lost."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(os.environ.get(VARIABLE) or _USUAL)

    # --- memory ---

    def note_idle(self, card: Card) -> None:
        """While no model of ours is in memory: what lies on a card then is the desktop's and other programs'."""
        if not card.integrated:
            self._add(_device(card), "idle", card.total - card.free)

    def note_beyond(self, card: Card, size: int) -> None:
        """A load took so many bytes more than llama.cpp's account of it (less, where negative)."""
        if not card.integrated:
            self._add(_device(card), "beyond", size)

    def margin(self, card: Card) -> int | None:
        """Bytes to keep free on a card: what loads took beyond their account, and what others have had there besides
        what they have now. None where too little was measured.
        """
        beyond, idle = self._figures(_device(card), "beyond"), self._figures(_device(card), "idle")
        if card.integrated or len(beyond) < _TIMES:
            return None
        others = max(idle, default=0) - (card.total - card.free)
        return min(round(max(*beyond, 0) + max(others, 0)) + _SPARE, card.total // _SHARE)

    def margins(self, cards: Sequence[Card]) -> tuple[tuple[str, int], ...]:
        """The margins of those cards that have one, by name."""
        found = ((card.name, self.margin(card)) for card in cards)
        return tuple((name, size) for name, size in found if size is not None)

    # --- speed ---

    def bandwidth(self, card: Card | None, measure: Callable[[], float]) -> float:
        """Bytes a second that a card reads (None: the machine's memory): the best of a few times, as the machine may be
        busy with other things; 0 where none worked.
        """
        device = _device(card)
        if len(self._figures(device, "bandwidth")) < _BEST_OF:
            found = measure()
            if 0 < found < _LARGEST:
                self._add(device, "bandwidth", found)
        return self.known_bandwidth(card)

    def known_bandwidth(self, card: Card | None) -> float:
        """As above, without measuring."""
        return max(self._figures(_device(card), "bandwidth"), default=0.0)

    def note_pace(self, cards: Sequence[Card], kind: str, ratio: float) -> None:
        """Replies of models of this kind (its quantization) took `ratio` times as long as expected there."""
        if 1 / _FAR < ratio < _FAR:
            self._add(_devices(cards), f"pace {kind}", ratio)

    def pace(self, cards: Sequence[Card], kind: str) -> float | None:
        """How many times as long as expected replies take there; None where none was measured."""
        known = self._figures(_devices(cards), f"pace {kind}")
        return statistics.median(known) if known else None

    # --- the file ---

    def _figures(self, device: str, kind: str) -> list[float]:
        found = self._read().get(device, {})
        figures = found.get(kind, []) if isinstance(found, dict) else []
        sound = (each for each in figures if isinstance(each, int | float)) if isinstance(figures, list) else ()
        return [each for each in sound if isfinite(each) and abs(each) < _LARGEST][-_KEPT:]

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


def _device(card: Card | None) -> str:
    if card is None:
        return f"{machine()}, {MEMORY}"
    return f"{machine()}, {driver()}, {card.description or card.name}, {card.total >> 20} MiB"


def _devices(cards: Sequence[Card]) -> str:
    return " + ".join(map(_device, cards)) if cards else _device(None)


@lru_cache
def machine() -> str:
    """This machine, as far as speed and memory hang on it."""
    return f"{platform.node()} {platform.system()} {platform.machine()}, {os.cpu_count()} processors"


@lru_cache
def driver() -> str:
    """NVIDIA's driver, else the system's release, with which other drivers come."""
    with suppress(OSError):
        if found := re.search(r"\d+(\.\d+)+", _NVIDIA.read_text("utf-8", "replace")):
            return f"NVIDIA {found[0]}"
    if tool := shutil.which("nvidia-smi"):
        query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError, IndexError):
            told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
            return f"NVIDIA {told.split()[0]}"
    return platform.release()
