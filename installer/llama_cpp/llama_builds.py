"""The prebuilt and compiled builds of llama.cpp, and which of them fit a GPU, best first.

Facts only: it must not inspect the machine and starts nothing; wheel.py tries them. Which builds exist for which
systems and GPUs is taken from the workflows in llama-cpp-python's source package; a test checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from installer.hardware.cuda import CudaBuild, newest_card
from installer.hardware.machine import Machine

LLAMA_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"

#: Compiled by GCC 12, llama.cpp's AMX kernels crash the process at the first token (its pull request 26954).
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")

#: The oldest glibc for packages built on Ubuntu 22.04: those for CUDA and ROCm.
GLIBC = (2, 35)

_LINUX, _WINDOWS = "Linux x86_64", "Windows x86_64"
_KINDS = {"cu": "CUDA", "rocm": "ROCm", "hip": "ROCm", "vulkan": "Vulkan", "metal": "Metal"}
_CMAKE = {"-DGGML_CUDA": "CUDA", "-DGGML_HIP": "ROCm", "-DGGML_VULKAN": "Vulkan", "-DGGML_METAL": "Metal"}


@dataclass(frozen=True)
class LlamaBuild:
    """One way to get llama.cpp: prebuilt (`wheels`, a folder of LLAMA_WHEELS) or compiled with `cmake` settings.

    Compiled builds omit AMX (WITHOUT_AMX) if the compiler knows the option.
    """

    name: str
    wheels: str = ""
    cmake: str = ""
    libraries: tuple[str, ...] = ()  # the CUDA runtime, which the prebuilt packages need but do not include
    places: tuple[str, ...] = ()  # the systems it is built for, as in Machine.place; () for all
    code: CudaBuild | None = None  # what CUDA builds are compiled for

    @property
    def kind(self) -> str:
        """The GPU backend, such as "CUDA"; "" for a CPU build."""
        if self.wheels:
            return next((kind for start, kind in _KINDS.items() if self.wheels.startswith(start)), "")
        return _CMAKE.get(self.cmake.partition("=")[0], "")

    def problem(self, machine: Machine) -> str:
        """Why it does not fit this machine, as a clause; "" if it may."""
        if self.places and machine.place not in self.places:
            return f"there is none for {machine.place}"
        card = newest_card(machine.cards)
        return self.code.problem(card, windows=machine.windows) if self.code and card else ""


def _cuda11(version: str, runtime: str, cublas: str) -> LlamaBuild:
    return _cuda(version, (f"nvidia-cuda-runtime-cu11=={runtime}", f"nvidia-cublas-cu11=={cublas}"))


def _cuda12(version: str, runtime: str, cublas: str) -> LlamaBuild:
    return _cuda(version, (f"nvidia-cuda-runtime-cu12=={runtime}", f"nvidia-cublas-cu12=={cublas}"))


def _cuda(version: str, libraries: tuple[str, ...]) -> LlamaBuild:
    first = int(version.partition(".")[0])
    oldest, newest = (7, 5) if first >= 13 else (6, 0), (8, 9) if first < 12 else (9, 0)
    places = (_LINUX,) if version == "12.1" else (_LINUX, _WINDOWS)
    code = CudaBuild(version, oldest, newest, ptx=first >= 12)
    return LlamaBuild(f"CUDA {version}", f"cu{version.replace('.', '')}", "", libraries, places, code)


CUDA_WHEELS = {
    "cu118": _cuda11("11.8", "11.8.89", "11.11.3.6"),
    "cu121": _cuda12("12.1", "12.1.105", "12.1.3.1"),
    "cu124": _cuda12("12.4", "12.4.127", "12.4.5.8"),
    "cu125": _cuda12("12.5", "12.5.82", "12.5.3.2"),
    "cu130": _cuda("13.0", ("nvidia-cuda-runtime==13.0.96", "nvidia-cublas==13.0.2.14")),
}
#: torch's own CUDA 12.8 libraries: one set for both, and newer ones run what was built for older ones.
CUDA_128 = ("nvidia-cuda-runtime-cu12==12.8.90", "nvidia-cublas-cu12==12.8.4.1")

VULKAN = LlamaBuild("Vulkan", "vulkan", places=(_LINUX, _WINDOWS))
ROCM = LlamaBuild("ROCm 7.2", "rocm72", places=(_LINUX,))
HIP = LlamaBuild("HIP", "hip-radeon", places=(_WINDOWS,))
METAL = LlamaBuild("Metal", "metal", places=("macOS arm64",))

#: Lets llama.cpp use other machines (the option rpc); tests use them as GPUs. 188 KB.
_RPC = "-DGGML_RPC=ON"
_LEAST = " ".join(f"-DGGML_{name}=OFF" for name in ("NATIVE", "AVX", "AVX2", "FMA", "F16C", "BMI2"))
#: Prebuilt; compiled for everything this processor has; and, if that does not run, for less (AVX2 on x86) and least.
PROCESSOR = (
    LlamaBuild("the processor", "cpu", places=(_LINUX, "Linux arm64", "Linux riscv64", _WINDOWS, "macOS arm64")),
    LlamaBuild("the processor", cmake=_RPC),
    LlamaBuild("most processors", cmake=f"{_RPC} -DGGML_NATIVE=OFF"),
    LlamaBuild("any processor", cmake=f"{_RPC} {_LEAST}"),
)


def plan_llama_builds(
    gpu: str, cuda118: bool, tools: Sequence[str], cuda128: bool = False, machine: Machine | None = None
) -> list[LlamaBuild]:
    """The ways to get llama.cpp for this GPU, best first; `tools` are the GPU compilers that the machine has.

    Prebuilt packages come before what must be compiled, and CPU builds last. `machine`: only those that may run on it.
    """
    ways = [*_ready_made(gpu, cuda118, cuda128, tools), *_compiled(gpu, tools), *PROCESSOR]
    return [way for way in ways if not (machine and way.problem(machine))]


def excluded_builds(gpu: str, cuda118: bool, cuda128: bool, machine: Machine) -> dict[str, str]:
    """The builds for this GPU that the machine excludes, each with the reason."""
    ways = _ready_made(gpu, cuda118, cuda128, machine.tools)
    found = {way.name: problem for way in ways if (problem := way.problem(machine))}
    if machine.no_vulkan and gpu in "BD":
        found["Vulkan, compiled here"] = machine.no_vulkan
    return found


def _ready_made(gpu: str, cuda118: bool, cuda128: bool, tools: Sequence[str]) -> list[LlamaBuild]:
    if gpu == "A":
        return [*_nvidia(cuda118, cuda128), VULKAN]
    if gpu == "B":  # The Vulkan build is the smaller package, for all GPUs, and faster on the CPU: built with AVX2
        return [ROCM, VULKAN, HIP] if "hipcc" in tools else [VULKAN, ROCM, HIP]
    return {"C": [METAL], "D": [VULKAN]}.get(gpu, [])


def _nvidia(cuda118: bool, cuda128: bool) -> list[LlamaBuild]:
    """There is none for CUDA 12.8: 12.4 and 12.5 run on its libraries, and their PTX on later GPUs."""
    if cuda118:
        return [CUDA_WHEELS["cu118"]]
    if not cuda128:
        return [CUDA_WHEELS["cu121"], CUDA_WHEELS["cu124"]]
    twelve = [replace(CUDA_WHEELS[name], libraries=CUDA_128) for name in ("cu124", "cu125", "cu121")]
    return [*twelve[:2], CUDA_WHEELS["cu130"], twelve[2]]


def _compiled(gpu: str, tools: Sequence[str]) -> list[LlamaBuild]:
    ways = []
    if gpu == "A" and "nvcc" in tools:
        ways.append(LlamaBuild("CUDA", cmake=f"-DGGML_CUDA=on {_RPC}"))
    if gpu == "B" and "hipcc" in tools:
        ways.append(LlamaBuild("ROCm", cmake=f"-DGGML_HIP=on {_RPC}"))
    if gpu in "BD" and "glslc" in tools:
        ways.append(LlamaBuild("Vulkan", cmake=f"-DGGML_VULKAN=on {_RPC}"))
    if gpu == "C":
        ways.append(LlamaBuild("Metal", cmake=f"-DGGML_METAL=on {_RPC}"))
    return ways
