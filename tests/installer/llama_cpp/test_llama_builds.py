"""The builds of llama.cpp for each GPU, in order; what GPU, driver and system exclude, and why."""

from __future__ import annotations

import pytest

from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu
from installer.llama_cpp.llama_builds import CUDA_128, PROCESSOR, excluded_builds, plan_llama_builds

LESS = [build.cmake for build in PROCESSOR[-2:]]
RPC = "-DGGML_RPC=ON"
ALL = ["cpu", RPC, *LESS]


@pytest.mark.parametrize(
    ("gpu", "cuda118", "cuda128", "tools", "ways"),
    [
        ("N", False, False, ["nvcc"], []),
        ("A", False, False, [], ["cu121", "cu124", "vulkan"]),
        ("A", True, False, [], ["cu118", "vulkan"]),
        ("A", False, True, [], ["cu124", "cu125", "cu130", "cu121", "vulkan"]),
        ("A", False, False, ["nvcc"], ["cu121", "cu124", "vulkan", f"-DGGML_CUDA=on {RPC}"]),
        ("B", False, False, [], ["vulkan", "rocm72", "hip-radeon"]),
        (
            "B",
            False,
            False,
            ["hipcc", "glslc"],
            ["rocm72", "vulkan", "hip-radeon", f"-DGGML_HIP=on {RPC}", f"-DGGML_VULKAN=on {RPC}"],
        ),
        ("D", False, False, ["glslc"], ["vulkan", f"-DGGML_VULKAN=on {RPC}"]),
        ("C", False, False, [], ["metal", f"-DGGML_METAL=on {RPC}"]),
    ],
)
def test_the_ways_to_llama_cpp(gpu: str, cuda118: bool, cuda128: bool, tools: list[str], ways: list[str]) -> None:
    plan = plan_llama_builds(gpu, cuda118, tools, cuda128)
    assert [build.wheels or build.cmake for build in plan] == [*ways, *ALL]


def test_the_last_way_asks_for_nothing_that_a_processor_may_lack() -> None:
    assert LESS[0] == "-DGGML_RPC=ON -DGGML_NATIVE=OFF"
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF"} <= set(LESS[1].split())


@pytest.mark.parametrize(
    ("system", "card", "driver", "cuda128", "found"),
    [
        ("Windows", (12, 0), (580, 97), True, ["cu124", "cu125", "cu130"]),
        ("Windows", (12, 0), (572, 16), True, ["cu124", "cu125"]),
        ("Windows", (12, 0), (551, 23), True, []),
        ("Linux", (12, 0), (552, 0), True, ["cu124", "cu121"]),
        ("Linux", (8, 6), (525, 60), False, ["cu121", "cu124"]),
        ("Windows", (8, 6), (525, 60), False, []),
        ("Linux", (8, 6), (470, 82), False, []),
        ("Linux", (6, 1), (580, 65), True, ["cu124", "cu125", "cu121"]),
        ("Linux", (5, 2), (580, 65), True, []),
        ("Linux", (), (), True, ["cu124", "cu125", "cu130", "cu121"]),
        ("Linux", (8, 6), (), True, ["cu124", "cu125", "cu130", "cu121"]),
    ],
)
def test_card_and_driver_decide_and_what_is_left_out_has_a_reason(
    system: str, card: tuple[int, ...], driver: tuple[int, ...], cuda128: bool, found: list[str]
) -> None:
    machine = Machine(system, "x86_64", cards=(NvidiaGpu("Card", card, driver),))
    plan = plan_llama_builds("A", False, [], cuda128, machine)
    assert [build.wheels for build in plan] == [*found, "vulkan", "cpu", "", "", ""]
    every = {build.name for build in plan_llama_builds("A", False, [], cuda128) if build.kind}
    reasons = excluded_builds("A", False, cuda128, machine)
    assert set(reasons) == every - {build.name for build in plan}
    assert all("NVIDIA driver" in why or "no code" in why or "none for Windows" in why for why in reasons.values())


def test_the_driver_that_is_needed_is_named() -> None:
    machine = Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (470, 82)),))
    said = excluded_builds("A", False, True, machine)
    assert said["CUDA 12.4"] == "it requires NVIDIA driver 525.60 or newer, but 470.82 is installed"
    assert "580.65" in said["CUDA 13.0"]


def test_one_set_of_cudas_libraries_serves_torch_and_llama_cpp() -> None:
    twelve = [build for build in plan_llama_builds("A", False, [], True) if build.name.startswith("CUDA 12")]
    assert {build.libraries for build in twelve} == {CUDA_128}
