"""Which torch, and which ExLlamaV2, fit which graphics card, and where they are to be had. Facts: it starts nothing.

One stack is for NVIDIA's cards from Volta on with a driver from 570: CUDA 12.8. Pascal's cards have no code in torch's
packages for it, and older drivers no CUDA 12.8, so CUDA 12.1 stays for them (it ended with torch 2.5.1), and CUDA 11.8
for drivers that are older still. ExLlamaV2's ready-made packages are made for pairs of a CUDA and a torch.

For which systems and Pythons there are packages is a table here; tests resolve what the registry has. Not seen are
those of PyTorch's own index and of ExLlamaV2's releases: they are read off the recipes that make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from installer.cuda import Code, best
from installer.machine import Machine

TORCH_WHEELS = "https://download.pytorch.org/whl"
EXLLAMAV2 = "0.3.2"
EXLLAMAV2_WHEELS = f"https://github.com/turboderp-org/exllamav2/releases/download/v{EXLLAMAV2}"

_LINUX, _WINDOWS, _ARM, _MAC = "Linux x86_64", "Windows x86_64", "Linux arm64", "macOS arm64"
_ALL, _TO_312 = ("3.10", "3.11", "3.12", "3.13"), ("3.10", "3.11", "3.12")


@dataclass(frozen=True)
class TorchBuild:
    """A requirement, and the folder of TORCH_WHEELS that has it; without a folder, the usual index.

    `exllamav2` is the pair that ExLlamaV2's package is made for; "" where it cannot run. `pythons` and
    `exllamav2_pythons` are the Pythons that there are packages for, by the system as Machine.place names it.
    """

    name: str
    requirement: str
    wheels: str = ""
    anywhere: bool = False  # whether the usual index has a fitting one, too
    exllamav2: str = ""
    pythons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exllamav2_pythons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    code: Code | None = None

    def problem(self, python: str, place: str) -> str:
        """Why this torch is not to be had for a Python such as "3.12", a sentence; "" where it is, or may be."""
        there = self.pythons.get(place, ())
        if python in there or not python:
            return ""
        what = f"torch {self.requirement.partition('==')[2]} for {self.name}"
        if not there:
            return f"There is no {what} for {place}, so the loaders and the training that need torch cannot run there."
        return (
            f"There is no {what} for Python {python} on {place}, only for {', '.join(there)}. Install Python 3.12, "
            "delete the folder installer_files, and start again with it."
        )


CUDA_118 = TorchBuild(
    "CUDA 11.8", "torch==2.5.1", "cu118", exllamav2="cu118.torch2.5.0",
    pythons={_LINUX: _ALL, _WINDOWS: _TO_312}, exllamav2_pythons={_LINUX: _ALL, _WINDOWS: _TO_312},
    code=Code("11.8", (3, 7), (9, 0)),
)  # fmt: skip
CUDA_121 = TorchBuild(
    "CUDA 12.1", "torch==2.5.1", "cu121", exllamav2="cu121.torch2.5.0",
    pythons={_LINUX: _ALL, _WINDOWS: _TO_312}, exllamav2_pythons={_LINUX: _ALL, _WINDOWS: _TO_312},
    code=Code("12.1", (5, 0), (9, 0)),
)  # fmt: skip
CUDA_128 = TorchBuild(
    "CUDA 12.8", "torch==2.9.0", "cu128", exllamav2="cu128.torch2.9.0",
    pythons={_LINUX: _ALL, _WINDOWS: _ALL}, exllamav2_pythons={_LINUX: _ALL, _WINDOWS: _ALL},
    code=Code("12.8", (7, 0), (12, 0), driver=((570, 26), (570, 65))),
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
    """The torch for this card: A NVIDIA, B AMD, C Apple, D Intel, N none."""
    if gpu == "A":
        return CUDA_118 if cuda118 else CUDA_128 if cuda128 else CUDA_121
    return {"B": ROCM, "C": METAL, "D": XPU}.get(gpu, PROCESSOR)


def nvidia_stack(machine: Machine) -> tuple[TorchBuild, str]:
    """The newest stack that runs on this machine's card and driver, and why no newer one does, "" for the newest."""
    why = ""
    for stack in (CUDA_128, CUDA_121, CUDA_118):
        problem = problem_of(stack, machine)
        if not problem:
            return stack, why
        why = why or f"{stack.name}: {problem}"
    return CUDA_121, why  # for none of them: llama.cpp may still run on it by Vulkan


def problem_of(build: TorchBuild, machine: Machine) -> str:
    """Why this torch would not use the machine's card, a clause; "" where it would, or where that is not known."""
    card = best(machine.cards)
    return build.code.problem(card, windows=machine.windows) if card and build.code else ""


def useless(build: TorchBuild, machine: Machine) -> str:
    """Why this torch would not use the machine's card, a sentence; "" where it would, or where that is not known."""
    problem = problem_of(build, machine)
    return f"torch for {build.name} is not installed: {problem}." if problem else ""


def exllamav2_wheel(build: TorchBuild, python: str, *, windows: bool) -> str:
    """The address of ExLlamaV2's package for this torch and Python, such as "3.12"; "" where there is none."""
    if not build.exllamav2 or python not in build.exllamav2_pythons.get(_WINDOWS if windows else _LINUX, ()):
        return ""
    tag = "cp" + python.replace(".", "")
    platform = "win_amd64" if windows else "linux_x86_64"
    return f"{EXLLAMAV2_WHEELS}/exllamav2-{EXLLAMAV2}+{build.exllamav2}-{tag}-{tag}-{platform}.whl"
