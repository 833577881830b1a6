"""Which torch, and which ExLlamaV2, fit which graphics card, and where they are to be had. Facts: it starts nothing.

CUDA 12.1 ended with torch 2.5.1. ExLlamaV2's ready-made packages are made for pairs of a CUDA and a torch, and for
CPython 3.10 to 3.13 on Windows and Linux.
"""

from __future__ import annotations

from dataclasses import dataclass

TORCH_WHEELS = "https://download.pytorch.org/whl"
EXLLAMAV2 = "0.3.2"
EXLLAMAV2_WHEELS = f"https://github.com/turboderp-org/exllamav2/releases/download/v{EXLLAMAV2}"


@dataclass(frozen=True)
class TorchBuild:
    """A requirement, and the folder of TORCH_WHEELS that has it; without a folder, the usual index.

    `exllamav2` is the pair that ExLlamaV2's package is made for; "" where it cannot run.
    """

    name: str
    requirement: str
    wheels: str = ""
    anywhere: bool = False  # whether the usual index has a fitting one, too
    exllamav2: str = ""


CUDA_118 = TorchBuild("CUDA 11.8", "torch==2.5.1", "cu118", exllamav2="cu118.torch2.5.0")
CUDA_121 = TorchBuild("CUDA 12.1", "torch==2.5.1", "cu121", exllamav2="cu121.torch2.5.0")
CUDA_128 = TorchBuild("CUDA 12.8", "torch==2.9.0", "cu128", exllamav2="cu128.torch2.9.0")
ROCM = TorchBuild("ROCm 6.2", "torch==2.5.1", "rocm6.2")
METAL = TorchBuild("Apple's Metal", "torch==2.13.0")
XPU = TorchBuild("Intel's XPU", "torch==2.8.0", "xpu")
PROCESSOR = TorchBuild("the processor", "torch==2.13.0", "cpu", anywhere=True)

#: All stacks; a test resolves each with requirements.txt and requirements-torch.txt.
STACKS = (CUDA_118, CUDA_121, CUDA_128, ROCM, METAL, XPU, PROCESSOR)


def torch_build(gpu: str, cuda118: bool, cuda128: bool = False) -> TorchBuild:
    """The torch for this card: A NVIDIA, B AMD, C Apple, D Intel, N none."""
    if gpu == "A":
        return CUDA_118 if cuda118 else CUDA_128 if cuda128 else CUDA_121
    return {"B": ROCM, "C": METAL, "D": XPU}.get(gpu, PROCESSOR)


def exllamav2_wheel(build: TorchBuild, python: str, *, windows: bool) -> str:
    """The address of ExLlamaV2's package for this torch and Python, such as "3.12"; "" where there is none."""
    if not build.exllamav2 or python not in ("3.10", "3.11", "3.12", "3.13"):
        return ""
    tag = "cp" + python.replace(".", "")
    platform = "win_amd64" if windows else "linux_x86_64"
    return f"{EXLLAMAV2_WHEELS}/exllamav2-{EXLLAMAV2}+{build.exllamav2}-{tag}-{tag}-{platform}.whl"
