"""The ways to get llama.cpp, ready-made or compiled, and which of them fit a card, best first.

Facts only: it must not look at the machine, and it starts nothing; llama_wheel.py tries them. What is ready-made, for
which systems and cards, is read off the workflows in llama-cpp-python's own source package; a test does it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from installer.cuda import Code, best
from installer.machine import Machine

LLAMA_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"

#: Compiled by GCC 12, llama.cpp's AMX kernels end the process at the first token (its pull request 26954).
WITHOUT_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")

#: The oldest glibc for packages made on Ubuntu 22.04: those for CUDA and ROCm.
GLIBC = (2, 35)

_LINUX, _WINDOWS = "Linux x86_64", "Windows x86_64"
_KINDS = {"cu": "CUDA", "rocm": "ROCm", "hip": "ROCm", "vulkan": "Vulkan", "metal": "Metal"}
_CMAKE = {"-DGGML_CUDA": "CUDA", "-DGGML_HIP": "ROCm", "-DGGML_VULKAN": "Vulkan", "-DGGML_METAL": "Metal"}


@dataclass(frozen=True)
class Build:
    """One way to get llama.cpp: ready-made (`wheels`, a folder of LLAMA_WHEELS) or compiled with `cmake` settings.

    What is compiled leaves out AMX (WITHOUT_AMX) wherever the compiler knows it.
    """

    name: str
    wheels: str = ""
    cmake: str = ""
    libraries: tuple[str, ...] = ()  # CUDA's runtime, which the ready-made packages need but do not bring
    places: tuple[str, ...] = ()  # the systems that it is made for, as Machine.place names them; () for all
    code: Code | None = None  # what CUDA's are compiled for

    @property
    def kind(self) -> str:
        """What reaches the card, such as "CUDA"; "" for a build that only computes on the processor."""
        if self.wheels:
            return next((kind for start, kind in _KINDS.items() if self.wheels.startswith(start)), "")
        return _CMAKE.get(self.cmake.partition("=")[0], "")

    def problem(self, machine: Machine) -> str:
        """Why it cannot be for this machine, as a clause; "" where it may be."""
        if self.places and machine.place not in self.places:
            return f"there is none for {machine.place}"
        card = best(machine.cards)
        return self.code.problem(card, windows=machine.windows) if self.code and card else ""


def _cuda11(version: str, runtime: str, cublas: str) -> Build:
    return _cuda(version, (f"nvidia-cuda-runtime-cu11=={runtime}", f"nvidia-cublas-cu11=={cublas}"))


def _cuda12(version: str, runtime: str, cublas: str) -> Build:
    return _cuda(version, (f"nvidia-cuda-runtime-cu12=={runtime}", f"nvidia-cublas-cu12=={cublas}"))


def _cuda(version: str, libraries: tuple[str, ...]) -> Build:
    first = int(version.partition(".")[0])
    oldest, newest = (7, 5) if first >= 13 else (6, 0), (8, 9) if first < 12 else (9, 0)
    places = (_LINUX,) if version == "12.1" else (_LINUX, _WINDOWS)
    code = Code(version, oldest, newest, ptx=first >= 12)
    return Build(f"CUDA {version}", f"cu{version.replace('.', '')}", "", libraries, places, code)


CUDA_WHEELS = {
    "cu118": _cuda11("11.8", "11.8.89", "11.11.3.6"),
    "cu121": _cuda12("12.1", "12.1.105", "12.1.3.1"),
    "cu124": _cuda12("12.4", "12.4.127", "12.4.5.8"),
    "cu125": _cuda12("12.5", "12.5.82", "12.5.3.2"),
    "cu130": _cuda("13.0", ("nvidia-cuda-runtime==13.0.96", "nvidia-cublas==13.0.2.14")),
}
#: torch's own libraries of CUDA 12.8: one set for both, and newer ones run what was made for older ones.
CUDA_128 = ("nvidia-cuda-runtime-cu12==12.8.90", "nvidia-cublas-cu12==12.8.4.1")

VULKAN = Build("Vulkan", "vulkan", places=(_LINUX, _WINDOWS))
ROCM = Build("ROCm 7.2", "rocm72", places=(_LINUX,))
HIP = Build("HIP", "hip-radeon", places=(_WINDOWS,))
METAL = Build("Metal", "metal", places=("macOS arm64",))

#: Lets llama.cpp's servers stand for graphics cards: the tests' way to split a model without one. 188 KB.
_RPC = "-DGGML_RPC=ON"
_LEAST = " ".join(f"-DGGML_{name}=OFF" for name in ("NATIVE", "AVX", "AVX2", "FMA", "F16C", "BMI2"))
#: Ready-made; compiled for all that this processor has; and, where that does not run, for less (AVX2 on x86) and least.
PROCESSOR = (
    Build("the processor", "cpu", places=(_LINUX, "Linux arm64", "Linux riscv64", _WINDOWS, "macOS arm64")),
    Build("the processor", cmake=_RPC),
    Build("most processors", cmake=f"{_RPC} -DGGML_NATIVE=OFF"),
    Build("any processor", cmake=f"{_RPC} {_LEAST}"),
)


def llama_plan(
    gpu: str, cuda118: bool, tools: Sequence[str], cuda128: bool = False, machine: Machine | None = None
) -> list[Build]:
    """The ways to get llama.cpp for this card, best first; `tools` are the GPU compilers that the machine has.

    Ready-made packages come before what must be compiled, and the processor last. `machine`: for those alone that may
    run on it.
    """
    ways = [*_ready_made(gpu, cuda118, cuda128, tools), *_compiled(gpu, tools), *PROCESSOR]
    return [way for way in ways if not (machine and way.problem(machine))]


def left_out(gpu: str, cuda118: bool, cuda128: bool, machine: Machine) -> dict[str, str]:
    """The ways for this card that the machine rules out, each with the reason."""
    ways = _ready_made(gpu, cuda118, cuda128, machine.tools)
    found = {way.name: problem for way in ways if (problem := way.problem(machine))}
    if machine.no_vulkan and gpu in "BD":
        found["Vulkan, compiled here"] = machine.no_vulkan
    return found


def _ready_made(gpu: str, cuda118: bool, cuda128: bool, tools: Sequence[str]) -> list[Build]:
    if gpu == "A":
        return [*_nvidia(cuda118, cuda128), VULKAN]
    if gpu == "B":  # Vulkan's is the smaller package, for all cards, and quicker on the processor: made with AVX2
        return [ROCM, VULKAN, HIP] if "hipcc" in tools else [VULKAN, ROCM, HIP]
    return {"C": [METAL], "D": [VULKAN]}.get(gpu, [])


def _nvidia(cuda118: bool, cuda128: bool) -> list[Build]:
    """For CUDA 12.8 there is none: 12.4 and 12.5 run on its libraries, and their PTX on cards that came later."""
    if cuda118:
        return [CUDA_WHEELS["cu118"]]
    if not cuda128:
        return [CUDA_WHEELS["cu121"], CUDA_WHEELS["cu124"]]
    twelve = [replace(CUDA_WHEELS[name], libraries=CUDA_128) for name in ("cu124", "cu125", "cu121")]
    return [*twelve[:2], CUDA_WHEELS["cu130"], twelve[2]]


def _compiled(gpu: str, tools: Sequence[str]) -> list[Build]:
    ways = []
    if gpu == "A" and "nvcc" in tools:
        ways.append(Build("CUDA", cmake="-DGGML_CUDA=on"))
    if gpu == "B" and "hipcc" in tools:
        ways.append(Build("ROCm", cmake="-DGGML_HIP=on"))
    if gpu in "BD" and "glslc" in tools:
        ways.append(Build("Vulkan", cmake="-DGGML_VULKAN=on"))
    if gpu == "C":
        ways.append(Build("Metal", cmake="-DGGML_METAL=on"))
    return ways
