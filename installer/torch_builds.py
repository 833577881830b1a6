"""Which torch fits which graphics card, and where it is to be had. Facts only: it starts nothing.

CUDA 12.1 ended with torch 2.5.1, and ExLlamaV2's ready-made packages are made for the pairs named here.
"""

from __future__ import annotations

from dataclasses import dataclass

TORCH_WHEELS = "https://download.pytorch.org/whl"


@dataclass(frozen=True)
class TorchBuild:
    """A requirement, and the folder of TORCH_WHEELS that has it; without a folder, the usual index."""

    name: str
    requirement: str
    wheels: str = ""
    anywhere: bool = False  # whether the usual index has a fitting one, too


def torch_build(gpu: str, cuda118: bool) -> TorchBuild:
    """The torch for this card: A NVIDIA, B AMD, C Apple, D Intel, N none."""
    if gpu == "A":
        return TorchBuild("CUDA 11.8", "torch==2.5.1", "cu118") if cuda118 else CUDA_121
    if gpu == "B":
        return TorchBuild("ROCm 6.2", "torch==2.5.1", "rocm6.2")
    if gpu == "C":
        return TorchBuild("Apple's Metal", "torch==2.13.0")
    if gpu == "D":
        return TorchBuild("Intel's XPU", "torch==2.8.0", "xpu")
    return TorchBuild("the processor", "torch==2.13.0", "cpu", anywhere=True)


CUDA_121 = TorchBuild("CUDA 12.1", "torch==2.5.1", "cu121")
