"""Every stack of packages can be resolved for every supported Python and system, by uv.

Only the usual index is asked. PyTorch's own, with the builds for CUDA before 12.8, ROCm and XPU, cannot be reached from
where this was written: for those the same version of torch from the usual index stands in, whose needs are the same but
for NVIDIA's libraries, and the Pythons of their packages are taken from it as well where it has the system.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from installer.environment.requirements import other_requirements
from installer.layout import Layout
from installer.llama_cpp.llama_builds import CUDA_128 as TORCHS_LIBRARIES
from installer.llama_cpp.llama_builds import CUDA_WHEELS, LlamaBuild, plan_llama_builds
from installer.make_lock import strip_hashes
from installer.torch.torch_builds import (
    CUDA_118,
    CUDA_121,
    CUDA_128,
    METAL,
    PROCESSOR,
    ROCM,
    STACKS,
    TorchBuild,
    exllamav2_wheel,
)  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = {
    "Windows x86_64": "x86_64-pc-windows-msvc",
    "Linux x86_64": "x86_64-manylinux_2_31",
    "Linux arm64": "aarch64-manylinux_2_31",
    "macOS arm64": "aarch64-apple-darwin",
    "macOS x86_64": "x86_64-apple-darwin",
}
#: One of each set of requirements: the others only differ in the index for torch.
DIFFERENT = list({(each.requirement, bool(each.exllamav2)): each for each in STACKS}.values())


def resolves(python: str, place: str, *lines: str) -> str:
    """Why uv finds no packages for these requirements; "" if it does."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header"),
        *("--only-binary", ":all:", "--no-python-downloads", "--python-version", python),
        *("--python-platform", PLATFORMS[place], "-"),
    ]
    wanted = "\n".join((*lines, ""))
    environ = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    made = subprocess.run(
        command, input=wanted, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env=environ
    )
    missing = [line for line in lines if "==" in line and ";" not in line and line not in made.stdout]
    return made.stderr if made.returncode else f"{missing} is not in what was found" if missing else ""


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("place", PLATFORMS)
def test_the_page_can_be_had_everywhere(python: str, place: str) -> None:
    assert resolves(python, place, *strip_hashes(other_requirements(Layout(ROOT))).splitlines()) == ""


@pytest.mark.parametrize("stack", DIFFERENT, ids=lambda each: f"{each.requirement}-{each.wheels}")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("place", PLATFORMS)
def test_a_stack_can_be_had_where_the_table_says_so(stack: TorchBuild, python: str, place: str) -> None:
    files = ["requirements-torch.txt"]
    files += ["requirements-exllamav2.txt"] if python in stack.exllamav2_pythons.get(place, ()) else []
    texts = [other_requirements(Layout(ROOT)), *((ROOT / name).read_text("utf-8") for name in files)]
    asked = (python, place, *strip_hashes("".join(texts)).splitlines(), stack.requirement)
    if python in stack.pythons.get(place, ()):
        assert resolves(*asked) == ""
        assert stack.problem(python, place) == ""
    else:
        said = stack.problem(python, place)
        assert said.startswith("There is no torch")
        if stack in (METAL, PROCESSOR) or (stack is CUDA_121 and place == "Windows x86_64"):
            assert "no wheels with a matching" in resolves(*asked), "then it could be promised"


@pytest.mark.parametrize(
    ("stack", "python", "windows", "end"),
    [
        (CUDA_121, "3.11", True, "/v0.3.2/exllamav2-0.3.2+cu121.torch2.5.0-cp311-cp311-win_amd64.whl"),
        (CUDA_118, "3.13", False, "+cu118.torch2.5.0-cp313-cp313-linux_x86_64.whl"),
        (CUDA_128, "3.12", False, "+cu128.torch2.9.0-cp312-cp312-linux_x86_64.whl"),
        (CUDA_128, "3.13", True, "+cu128.torch2.9.0-cp313-cp313-win_amd64.whl"),
        (ROCM, "3.13", False, "+rocm6.4.torch2.9.0-cp313-cp313-linux_x86_64.whl"),
        (CUDA_121, "3.13", True, ""),
        (CUDA_118, "3.13", True, ""),
        (CUDA_128, "3.14", False, ""),
        (ROCM, "3.12", True, ""),
        (METAL, "3.12", False, ""),
        (PROCESSOR, "3.12", False, ""),
    ],
)
def test_exllamav2_goes_with_its_torch(stack: TorchBuild, python: str, windows: bool, end: str) -> None:
    """The Pythons are those in ExLlamaV2's workflows: for torch 2.5.0, 3.13 only on Linux."""
    address = exllamav2_wheel(stack, python, windows=windows)
    assert address.endswith(end) if end else address == ""


def test_a_torch_that_does_not_exist_is_said_with_what_to_do() -> None:
    assert "only for 3.10, 3.11, 3.12. Install Python 3.12, delete" in CUDA_121.problem("3.13", "Windows x86_64")
    assert "for macOS x86_64, so loaders" in PROCESSOR.problem("3.12", "macOS x86_64")


LIBRARIES = {
    build.libraries: build
    for build in (*CUDA_WHEELS.values(), *plan_llama_builds("A", False, (), True))
    if build.libraries
}


@pytest.mark.parametrize("build", LIBRARIES.values(), ids=lambda build: " ".join(build.libraries))
@pytest.mark.parametrize("place", ["Windows x86_64", "Linux x86_64"])
def test_cudas_libraries_for_llama_cpp_can_be_had(build: LlamaBuild, place: str) -> None:
    assert resolves("3.12", place, *build.libraries) == ""


def test_llama_cpp_gets_the_very_libraries_of_torch() -> None:
    """Otherwise one would replace them under the other: on Linux both use the same folders."""
    assert resolves("3.12", "Linux x86_64", CUDA_128.requirement, *TORCHS_LIBRARIES) == ""
