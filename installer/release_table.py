"""llama.cpp's own builds: which archives there are, which fit a machine, and where they stand among the other ways.

The tag of the release and the SHA-256 of its archives stand in llama_release.json; docs/llama-releases.md tells how to
fill them in. It must not look at the machine, and fetches nothing; llama_release.py does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.cuda import Code
from installer.llama_builds import PROCESSOR, Build
from installer.nvidia import Card

PINS = Path(__file__).with_name("llama_release.json")


@dataclass(frozen=True)
class Release(Build):
    """A way to get llama.cpp: libraries of its own, unpacked beside the environment. `glibc`: the oldest that does."""

    archives: tuple[str, ...] = ()
    glibc: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> str:
        """What reaches the card, such as "CUDA"; "" for one that only computes on the processor."""
        return "" if self.name == CPU else self.name.partition(" ")[0]


@dataclass(frozen=True)
class Pins:
    """What llama_release.json says. `binding`: the requirement whose structs the release has."""

    binding: str = ""
    tag: str = ""
    address: str = ""
    sha256: Mapping[str, str] | None = None

    @classmethod
    def read(cls, path: Path = PINS) -> Pins:
        """Without a file that can be read, nothing is pinned."""
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return cls(found["binding"], found["tag"], found["address"], dict(found["sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def why_not(self, release: Release, requirement: str, libc: tuple[int, ...]) -> str:
        """Why this release is passed over, as a clause; "" where it can be fetched. `libc`: glibc's version, or 0."""
        if not self.tag:
            return "no release is named in llama_release.json"
        if requirement != self.binding:
            return f"llama_release.json is for {self.binding}, and {requirement} is wanted"
        unknown = [name for name in release.archives if not (self.sha256 or {}).get(name)]
        if unknown:
            return f"llama_release.json has no SHA-256 for {', '.join(unknown)}"
        if libc < release.glibc:
            return f"it needs glibc {release.glibc[0]}.{release.glibc[1]}"
        return ""


CPU, _VULKAN = "the processor (llama.cpp's build)", "Vulkan (llama.cpp's build)"


def _cuda(version: str, archive: str, runtime: str, glibc: tuple[int, int] = (0, 0)) -> Release:
    return Release(f"CUDA {version} (llama.cpp's build)", archives=(archive, runtime), glibc=glibc)


def _one(name: str, archive: str, glibc: tuple[int, int] = (0, 0)) -> Release:
    return Release(name, archives=(archive,), glibc=glibc)


def _ubuntu_cuda(version: str, machine: str) -> Release:
    name = f"llama-{{tag}}-bin-ubuntu-cuda-{version}-{machine}.tar.gz"
    return _cuda(version, name, f"cudart-{name}", (2, 39))


def _windows_cuda(version: str) -> Release:
    name = f"bin-win-cuda-{version}-x64.zip"
    return _cuda(version, f"llama-{{tag}}-{name}", f"cudart-llama-{name}")


#: By system and machine. The workflow of that commit makes them on Ubuntu 22.04 and 24.04, which sets the glibc. Those
#: for ROCm, SYCL and OpenVINO are left out: Vulkan runs on the same cards, and wants nothing but the card's driver.
TABLE: dict[tuple[str, str], dict[str, Release]] = {
    ("Windows", "x64"): {
        "cuda12": _windows_cuda("12.4"),
        "cuda13": _windows_cuda("13.4"),
        "vulkan": _one(_VULKAN, "llama-{tag}-bin-win-vulkan-x64.zip"),
        "cpu": _one(CPU, "llama-{tag}-bin-win-cpu-x64.zip"),
    },
    ("Windows", "arm64"): {"cpu": _one(CPU, "llama-{tag}-bin-win-cpu-arm64.zip")},
    ("Linux", "x64"): {
        "cuda12": _ubuntu_cuda("12.8", "x64"),
        "cuda13": _ubuntu_cuda("13.4", "x64"),
        "vulkan": _one(_VULKAN, "llama-{tag}-bin-ubuntu-vulkan-x64.tar.gz", (2, 35)),
        "cpu": _one(CPU, "llama-{tag}-bin-ubuntu-x64.tar.gz", (2, 35)),
    },
    ("Linux", "arm64"): {
        "cuda13": _ubuntu_cuda("13.4", "arm64"),
        "vulkan": _one(_VULKAN, "llama-{tag}-bin-ubuntu-vulkan-arm64.tar.gz", (2, 39)),
        "cpu": _one(CPU, "llama-{tag}-bin-ubuntu-arm64.tar.gz", (2, 39)),
    },
    ("Darwin", "arm64"): {"metal": _one("Metal (llama.cpp's build)", "llama-{tag}-bin-macos-arm64.tar.gz")},
    ("Darwin", "x64"): {"cpu": _one(CPU, "llama-{tag}-bin-macos-x64.tar.gz")},
}
#: What CUDA 13's builds run on: cards from Turing on, and no card that is known is too new for them.
THIRTEEN = Code("13.4", (7, 5), (99, 0))
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def releases(system: str, machine: str, gpu: str, card: Card | None = None) -> list[Release]:
    """Those that fit, best first; `system` and `machine` are Python's words, the card's letter is of gpu.GPUS.

    `card`: NVIDIA's that decides between CUDA 12 and 13; None where it is not known.
    """
    kinds = {"A": [*_cudas(system, card or Card("")), "vulkan"], "B": ["vulkan"], "D": ["vulkan"], "C": ["metal"]}
    there = TABLE.get((system, _MACHINES.get(machine.lower(), "")), {})
    return [there[kind] for kind in (*kinds.get(gpu, []), "cpu") if kind in there]


def _cudas(system: str, card: Card) -> list[str]:
    """CUDA 13 knows no card before 7.5 and wants driver 580; 12.4, Windows' one, knows no card from 10 on."""
    if THIRTEEN.problem(card, windows=system == "Windows"):
        return ["cuda12"]
    return ["cuda13", "cuda12"] if system == "Windows" and card.capability >= (10,) else ["cuda12", "cuda13"]


def with_releases(plan: Sequence[Build], found: Sequence[Release], *, first: bool) -> list[Build]:
    """A plan with the releases in their places: each kind of card before the next, and the processor last.

    `first`: before the other ways of their kind, else behind the ready-made packages and before what is compiled.
    """
    cards = [build for build in plan if build not in PROCESSOR]
    end = 0
    for kind in dict.fromkeys(each.kind for each in found if each.kind):
        own = [each for each in found if each.kind == kind]
        end = _insert(cards, own, kind, first=first, otherwise=end)
    processor = [build for build in plan if build in PROCESSOR]
    _insert(processor, [each for each in found if not each.kind], "", first=first, otherwise=0)
    return [*cards, *processor]


def _insert(plan: list[Build], own: Sequence[Build], kind: str, *, first: bool, otherwise: int) -> int:
    """Put releases beside the other ways of their kind; `otherwise`: where they go first and there is none of it.

    Returns the place behind them.
    """
    places = [at for at, build in enumerate(plan) if build.kind == kind and (first or build.wheels)]
    compiled = [at for at, build in enumerate(plan) if not build.wheels]
    if first:
        at = places[0] if places else otherwise
    else:
        at = places[-1] + 1 if places else min(compiled, default=len(plan))
    plan[at:at] = own
    return at + len(own)


def comes_first(system: str, machine: str, gpu: str, *, compiler: bool) -> bool:
    """Whether the releases are the first way: for Windows, AMD, Intel and Macs with Intel, and without a compiler."""
    mac = system == "Darwin" and _MACHINES.get(machine.lower()) == "x64"
    return system == "Windows" or gpu in "BD" or mac or not compiler
