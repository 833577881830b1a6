"""Which builds of torch and ExLlamaV2 fit which GPU, and where to get them. Facts only: it starts nothing.

NVIDIA GPUs from Volta on with a driver from 570 get CUDA 12.8. torch's packages for it contain no code for Pascal, and
older drivers do not support CUDA 12.8, so those get CUDA 12.1 (last built with torch 2.5.1), and still older drivers
get CUDA 11.8. ExLlamaV2's prebuilt packages are for pairs of CUDA and torch versions.

A table lists the systems and Python versions that have packages; tests check it against the registry. The packages of
PyTorch's own index and of ExLlamaV2's releases could not be checked: they are taken from their build recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from installer.hardware.cuda import CudaBuild, newest_card
from installer.hardware.machine import Machine

TORCH_WHEELS = "https://download.pytorch.org/whl"
EXLLAMAV2 = "0.3.2"
EXLLAMAV2_WHEELS = f"https://github.com/turboderp-org/exllamav2/releases/download/v{EXLLAMAV2}"

_LINUX, _WINDOWS, _ARM, _MAC = "Linux x86_64", "Windows x86_64", "Linux arm64", "macOS arm64"
_ALL, _TO_312 = ("3.10", "3.11", "3.12", "3.13"), ("3.10", "3.11", "3.12")


@dataclass(frozen=True)
class TorchBuild:
    """A requirement, and the folder of TORCH_WHEELS that has it; without a folder, the usual index.

    `exllamav2` is the pair that ExLlamaV2's package is built for; "" if it cannot run. `pythons` and
    `exllamav2_pythons` are the Python versions that have packages, by system as in Machine.place.
    """

    name: str
    requirement: str
    wheels: str = ""
    anywhere: bool = False  # whether the usual index has a fitting one, too
    exllamav2: str = ""
    pythons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exllamav2_pythons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    code: CudaBuild | None = None

    def problem(self, python: str, place: str) -> str:
        """Why this torch is not available for a Python such as "3.12", a sentence; "" if it is or may be."""
        there = self.pythons.get(place, ())
        if python in there or not python:
            return ""
        what = f"torch {self.requirement.partition('==')[2]} for {self.name}"
        if not there:
            return f"There is no {what} for {place}, so loaders and training that require torch do not work there."
        return (
            f"There is no {what} for Python {python} on {place}, only for {', '.join(there)}. Install Python "
            "3.12, delete the folder installer_files, then start again with it."
        )


CUDA_118 = TorchBuild(
    "CUDA 11.8", "torch==2.5.1", "cu118", exllamav2="cu118.torch2.5.0",
    pythons={_LINUX: _ALL, _WINDOWS: _TO_312}, exllamav2_pythons={_LINUX: _ALL, _WINDOWS: _TO_312},
    code=CudaBuild("11.8", (3, 7), (9, 0)),
)  # fmt: skip
CUDA_121 = TorchBuild(
    "CUDA 12.1", "torch==2.5.1", "cu121", exllamav2="cu121.torch2.5.0",
    pythons={_LINUX: _ALL, _WINDOWS: _TO_312}, exllamav2_pythons={_LINUX: _ALL, _WINDOWS: _TO_312},
    code=CudaBuild("12.1", (5, 0), (9, 0)),
)  # fmt: skip
CUDA_128 = TorchBuild(
    "CUDA 12.8", "torch==2.9.0", "cu128", exllamav2="cu128.torch2.9.0",
    pythons={_LINUX: _ALL, _WINDOWS: _ALL}, exllamav2_pythons={_LINUX: _ALL, _WINDOWS: _ALL},
    code=CudaBuild("12.8", (7, 0), (12, 0), driver=((570, 26), (570, 65))),
)  # fmt: skip
ROCM = TorchBuild(
    "ROCm 6.4", "torch==2.9.0", "rocm6.4", exllamav2="rocm6.4.torch2.9.0",
    pythons={_LINUX: _ALL}, exllamav2_pythons={_LINUX: _ALL},
)  # fmt: skip
METAL = TorchBuild("Apple's Metal", "torch==2.13.0", pythons={_MAC: _ALL})
XPU = TorchBuild("Intel's XPU", "torch==2.8.0", "xpu", pythons={_LINUX: _ALL, _WINDOWS: _ALL})
PROCESSOR = TorchBuild(
    "the processor", "torch==2.13.0", "cpu", anywhere=True,
    pythons={_LINUX: _ALL, _ARM: _ALL, _WINDOWS: _ALL, _MAC: _ALL},
)  # fmt: skip

#: All stacks; a test resolves each with requirements.txt and requirements-torch.txt.
STACKS = (CUDA_118, CUDA_121, CUDA_128, ROCM, METAL, XPU, PROCESSOR)


def torch_build(gpu: str, cuda118: bool, cuda128: bool = False) -> TorchBuild:
    """The torch build for this GPU: A NVIDIA, B AMD, C Apple, D Intel, N none."""
    if gpu == "A":
        return CUDA_118 if cuda118 else CUDA_128 if cuda128 else CUDA_121
    return {"B": ROCM, "C": METAL, "D": XPU}.get(gpu, PROCESSOR)


def newest_nvidia_stack(machine: Machine) -> tuple[TorchBuild, str]:
    """The newest stack that runs with this machine's GPU and driver, and why no newer one does ("" for the newest)."""
    why = ""
    for stack in (CUDA_128, CUDA_121, CUDA_118):
        problem = torch_problem(stack, machine)
        if not problem:
            return stack, why
        why = why or f"{stack.name}: {problem}"
    return CUDA_121, why  # none of them: llama.cpp may still run on it with Vulkan


def torch_problem(build: TorchBuild, machine: Machine) -> str:
    """Why this torch would not use the machine's GPU, a clause; "" if it would, or if unknown."""
    card = newest_card(machine.cards)
    return build.code.problem(card, windows=machine.windows) if card and build.code else ""


def torch_warning(build: TorchBuild, machine: Machine) -> str:
    """Why this torch would not use the machine's GPU, a sentence; "" if it would, or if unknown."""
    problem = torch_problem(build, machine)
    return f"torch for {build.name} is not installed: {problem}." if problem else ""


def exllamav2_wheel(build: TorchBuild, python: str, *, windows: bool) -> str:
    """The URL of ExLlamaV2's package for this torch and Python, such as "3.12"; "" if there is none."""
    if not build.exllamav2 or python not in build.exllamav2_pythons.get(_WINDOWS if windows else _LINUX, ()):
        return ""
    tag = "cp" + python.replace(".", "")
    platform = "win_amd64" if windows else "linux_x86_64"
    return f"{EXLLAMAV2_WHEELS}/exllamav2-{EXLLAMAV2}+{build.exllamav2}-{tag}-{tag}-{platform}.whl"
