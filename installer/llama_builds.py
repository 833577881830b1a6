"""The ways to get llama.cpp, ready-made or compiled, and which of them fit a card, best first.

Facts only: it must not look at the machine, and it starts nothing; llama_wheel.py tries them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LLAMA_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"

#: Compiled by GCC 12, llama.cpp's AMX kernels end the process at the first token (its pull request 26954).
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")


@dataclass(frozen=True)
class Build:
    """One way to get llama.cpp: ready-made (`wheels`, a folder of LLAMA_WHEELS) or compiled with `cmake` settings.

    What is compiled leaves out AMX (WITHOUT_AMX) wherever the compiler knows it.
    """

    name: str
    wheels: str = ""
    cmake: str = ""
    libraries: tuple[str, ...] = ()  # CUDA's runtime, which the ready-made packages need but do not bring


CUDA_WHEELS = {
    "cu118": Build("CUDA 11.8", "cu118", "", ("nvidia-cuda-runtime-cu11==11.8.89", "nvidia-cublas-cu11==11.11.3.6")),
    "cu121": Build("CUDA 12.1", "cu121", "", ("nvidia-cuda-runtime-cu12==12.1.105", "nvidia-cublas-cu12==12.1.3.1")),
    "cu130": Build("CUDA 13.0", "cu130", "", ("nvidia-cuda-runtime==13.0.96", "nvidia-cublas==13.0.2.14")),
    "cu124": Build("CUDA 12.4", "cu124", "", ("nvidia-cuda-runtime-cu12==12.4.127", "nvidia-cublas-cu12==12.4.5.8")),
}

_LEAST = " ".join(f"-DGGML_{name}=OFF" for name in ("NATIVE", "AVX", "AVX2", "FMA", "F16C", "BMI2"))
#: Ready-made; compiled for all that this processor has; and, where that does not run, for less (AVX2 on x86) and least.
PROCESSOR = (
    Build("the processor", "cpu"),
    Build("the processor"),
    Build("most processors", cmake="-DGGML_NATIVE=OFF"),
    Build("any processor", cmake=_LEAST),
)


def llama_plan(gpu: str, cuda118: bool, tools: Sequence[str], cuda128: bool = False) -> list[Build]:
    """The ways to get llama.cpp for this card, best first; `tools` are the GPU compilers that the machine has."""
    cuda = [CUDA_WHEELS[name] for name in _versions(cuda118, cuda128) if gpu == "A"]
    if gpu == "A" and "nvcc" in tools:
        return [*cuda, Build("CUDA", cmake="-DGGML_CUDA=on")]
    if gpu == "B" and "hipcc" in tools:
        return [Build("ROCm", cmake="-DGGML_HIP=on")]
    if gpu in "BD" and "glslc" in tools:
        return [Build("Vulkan", cmake="-DGGML_VULKAN=on")]
    if gpu == "C":
        return [Build("Metal", "metal"), Build("Metal", cmake="-DGGML_METAL=on")]
    return [*cuda, *PROCESSOR]


def _versions(cuda118: bool, cuda128: bool) -> tuple[str, ...]:
    """The ready-made packages to try. For CUDA 12.8 there is none: 13.0 runs on the same cards and newer drivers."""
    if cuda128:
        return ("cu130",)
    return ("cu118",) if cuda118 else ("cu121", "cu124")
