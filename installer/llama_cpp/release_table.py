"""llama.cpp's release builds: which archives there are, which fit a machine, and their rank among the other builds.

The tag of the release and the SHA-256 of its archives are in llama_release.json; docs/llama-releases.md explains how to
fill it in. It must not inspect the machine and downloads nothing; release.py does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installer.hardware.cuda import CudaBuild
from installer.hardware.nvidia import NvidiaGpu
from installer.llama_cpp.llama_builds import PROCESSOR, LlamaBuild

PINS = Path(__file__).with_name("llama_release.json")


@dataclass(frozen=True)
class LlamaReleaseBuild(LlamaBuild):
    """A release build of llama.cpp: its libraries are unpacked beside the environment. `glibc`: the oldest that
    works.
    """

    archives: tuple[str, ...] = ()
    glibc: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> str:
        """The GPU backend, such as "CUDA"; "" for a CPU build."""
        return "" if self.name == CPU else self.name.partition(" ")[0]


@dataclass(frozen=True)
class ReleasePins:
    """The contents of llama_release.json. `binding`: the requirement whose structs match the release."""

    binding: str = ""
    tag: str = ""
    address: str = ""
    sha256: Mapping[str, str] | None = None

    @classmethod
    def read(cls, path: Path = PINS) -> ReleasePins:
        """Read it; without a readable file, nothing is pinned."""
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return cls(found["binding"], found["tag"], found["address"], dict(found["sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def why_not(self, release: LlamaReleaseBuild, requirement: str, libc: tuple[int, ...]) -> str:
        """Why this release is skipped, as a clause; "" if it can be downloaded. `libc`: glibc's version, or 0."""
        if not self.tag:
            return "no release is named in llama_release.json"
        if requirement != self.binding:
            return f"llama_release.json is for {self.binding}, but {requirement} is required"
        unknown = [name for name in release.archives if not (self.sha256 or {}).get(name)]
        if unknown:
            return f"llama_release.json has no SHA-256 for {', '.join(unknown)}"
        if libc < release.glibc:
            return f"it requires glibc {release.glibc[0]}.{release.glibc[1]}"
        return ""


CPU, _VULKAN = "the processor (llama.cpp's build)", "Vulkan (llama.cpp's build)"


def _cuda(version: str, archive: str, runtime: str, glibc: tuple[int, int] = (0, 0)) -> LlamaReleaseBuild:
    return LlamaReleaseBuild(f"CUDA {version} (llama.cpp's build)", archives=(archive, runtime), glibc=glibc)


def _one(name: str, archive: str, glibc: tuple[int, int] = (0, 0)) -> LlamaReleaseBuild:
    return LlamaReleaseBuild(name, archives=(archive,), glibc=glibc)


def _ubuntu_cuda(version: str, machine: str) -> LlamaReleaseBuild:
    name = f"llama-{{tag}}-bin-ubuntu-cuda-{version}-{machine}.tar.gz"
    return _cuda(version, name, f"cudart-{name}", (2, 39))


def _windows_cuda(version: str) -> LlamaReleaseBuild:
    name = f"bin-win-cuda-{version}-x64.zip"
    return _cuda(version, f"llama-{{tag}}-{name}", f"cudart-llama-{name}")


#: By system and machine. The workflow of that commit builds them on Ubuntu 22.04 and 24.04, which sets the glibc. Those
#: for ROCm, SYCL and OpenVINO are left out: Vulkan runs on the same GPUs and needs only the GPU's driver.
TABLE: dict[tuple[str, str], dict[str, LlamaReleaseBuild]] = {
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
#: What the CUDA 13 builds run on: GPUs from Turing on; no known GPU is too new for them.
THIRTEEN = CudaBuild("13.4", (7, 5), (99, 0))
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def fitting_releases(system: str, machine: str, gpu: str, card: NvidiaGpu | None = None) -> list[LlamaReleaseBuild]:
    """The releases that fit, best first; `system` and `machine` as in Python's platform module, the card's letter from
    gpu.GPUS.

    `card`: the NVIDIA card that decides between CUDA 12 and 13; None if unknown.
    """
    kinds = {"A": [*_cudas(system, card or NvidiaGpu("")), "vulkan"], "B": ["vulkan"], "D": ["vulkan"], "C": ["metal"]}
    there = TABLE.get((system, _MACHINES.get(machine.lower(), "")), {})
    return [there[kind] for kind in (*kinds.get(gpu, []), "cpu") if kind in there]


def _cudas(system: str, card: NvidiaGpu) -> list[str]:
    """CUDA 13 supports no GPU before 7.5 and needs driver 580; 12.4, the Windows build, supports no GPU from 10 on."""
    if THIRTEEN.problem(card, windows=system == "Windows"):
        return ["cuda12"]
    return ["cuda13", "cuda12"] if system == "Windows" and card.capability >= (10,) else ["cuda12", "cuda13"]


def merge_releases(plan: Sequence[LlamaBuild], found: Sequence[LlamaReleaseBuild], *, first: bool) -> list[LlamaBuild]:
    """A plan with the releases in their places: one kind of GPU after the other, and CPU builds last.

    `first`: before the other builds of their kind, else after the prebuilt packages and before what is compiled.
    """
    cards = [build for build in plan if build not in PROCESSOR]
    end = 0
    for kind in dict.fromkeys(each.kind for each in found if each.kind):
        own = [each for each in found if each.kind == kind]
        end = _insert(cards, own, kind, first=first, otherwise=end)
    processor = [build for build in plan if build in PROCESSOR]
    _insert(processor, [each for each in found if not each.kind], "", first=first, otherwise=0)
    return [*cards, *processor]


def _insert(plan: list[LlamaBuild], own: Sequence[LlamaBuild], kind: str, *, first: bool, otherwise: int) -> int:
    """Insert releases next to the other builds of their kind; `otherwise`: where they go first if there is none.

    Returns the index after them.
    """
    places = [at for at, build in enumerate(plan) if build.kind == kind and (first or build.wheels)]
    compiled = [at for at, build in enumerate(plan) if not build.wheels]
    if first:
        at = places[0] if places else otherwise
    else:
        at = places[-1] + 1 if places else min(compiled, default=len(plan))
    plan[at:at] = own
    return at + len(own)


def prefers_releases(system: str, machine: str, gpu: str, *, compiler: bool) -> bool:
    """Whether releases come first: on Windows, for AMD, Intel and Intel Macs, and without a compiler."""
    mac = system == "Darwin" and _MACHINES.get(machine.lower()) == "x64"
    return system == "Windows" or gpu in "BD" or mac or not compiler
