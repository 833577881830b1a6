"""How much an installation fetches and writes, by what it is made of. Facts, and no look at the machine.

Bytes of packages as the registry and the indexes give them for CPython 3.12 on Linux; the caches hold what was
fetched once more. They are estimates to plan with; nothing was measured with a card.
"""

from __future__ import annotations

from dataclasses import dataclass

from installer.disk import GIB
from installer.torch_builds import TorchBuild

#: Fetched for torch, by the folder of its index. From the registry: 3.0 GB for CUDA 12.1, 4.1 GB for CUDA 12.8.
_TORCH = {"cu118": 2.9, "cu121": 3.0, "cu128": 4.1, "rocm6.2": 3.9, "xpu": 3.0, "cpu": 0.3, "": 0.3}
_LARGEST = max(_TORCH.values())
_UNPACKED = 1.8  # bytes on the disk for each that is fetched, of torch and CUDA
_BASE, _CUDA = 0.3, 0.9  # the page and its packages, llama.cpp's source, the demo model; llama.cpp for CUDA and cuBLAS


@dataclass(frozen=True)
class Size:
    """Bytes: `fetched` in all, `environment` for what is made of it, `cache` for what is kept of the downloads."""

    fetched: int
    environment: int
    cache: int


def size(torch: TorchBuild | None, *, cuda: bool, base: bool = True) -> Size:
    """`torch`: the build that is installed, None for none; `cuda`: for an NVIDIA card; `base`: the rest, too."""
    torches = _TORCH.get(torch.wheels, _LARGEST) + 0.2 if torch else 0.0
    fetched = (_BASE if base else 0) + (_CUDA if cuda and base else 0) + torches
    # for the processor 1 GiB was measured at the peak, compiling and caches included
    room = (1.5 * GIB if base else 0) + _UNPACKED * 1e9 * (fetched - (_BASE if base else 0))
    return Size(round(fetched * 1e9), round(room), round(max(fetched * 1e9, GIB / 2 if base else 0)))
