"""How much an installation downloads and writes. Facts only; it does not inspect the machine.

Sizes of packages are those of the registry and the indexes for CPython 3.12 on Linux; caches keep the downloads once
more. They are estimates for planning; nothing was measured with a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from installer.hardware.disk import GIB
from installer.torch.torch_builds import TorchBuild

#: Downloaded for torch, by the folder of its index. From the registry: 3.0 GB for CUDA 12.1, 4.1 GB for CUDA 12.8.
_TORCH = {"cu118": 2.9, "cu121": 3.0, "cu128": 4.1, "rocm6.2": 3.9, "xpu": 3.0, "cpu": 0.3, "": 0.3}
_LARGEST = max(_TORCH.values())
_UNPACKED = 1.8  # bytes on disk per downloaded byte, of torch and CUDA
_BASE, _CUDA = 0.3, 0.9  # the page and its packages, llama.cpp's source, the demo model; llama.cpp for CUDA and cuBLAS


@dataclass(frozen=True)
class InstallSize:
    """Bytes: `fetched` in total, `environment` for what is installed, `cache` for the downloads that are kept."""

    fetched: int
    environment: int
    cache: int


def install_size(torch: TorchBuild | None, *, cuda: bool, base: bool = True) -> InstallSize:
    """`torch`: the build that is installed, None for none; `cuda`: for an NVIDIA card; `base`: everything else, too."""
    torches = _TORCH.get(torch.wheels, _LARGEST) + 0.2 if torch else 0.0
    fetched = (_BASE if base else 0) + (_CUDA if cuda and base else 0) + torches
    # for the CPU, 1 GiB was measured at the peak, compiling and caches included
    room = (1.5 * GIB if base else 0) + _UNPACKED * 1e9 * (fetched - (_BASE if base else 0))
    return InstallSize(round(fetched * 1e9), round(room), round(max(fetched * 1e9, GIB / 2 if base else 0)))
