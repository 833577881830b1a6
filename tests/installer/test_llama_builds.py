"""The ways to llama.cpp for each card, in order."""

from __future__ import annotations

import pytest

from installer.llama_builds import PROCESSOR, llama_plan

LESS = [build.cmake for build in PROCESSOR[-2:]]


@pytest.mark.parametrize(
    ("gpu", "cuda118", "tools", "ways"),
    [
        ("N", False, ["nvcc"], ["cpu", "", *LESS]),
        ("A", False, [], ["cu121", "cu124", "cpu", "", *LESS]),
        ("A", True, [], ["cu118", "cpu", "", *LESS]),
        ("A", False, ["nvcc"], ["cu121", "cu124", "-DGGML_CUDA=on"]),
        ("B", False, [], ["cpu", "", *LESS]),
        ("B", False, ["hipcc", "glslc"], ["-DGGML_HIP=on"]),
        ("D", False, ["glslc"], ["-DGGML_VULKAN=on"]),
        ("C", False, [], ["metal", "-DGGML_METAL=on"]),
    ],
)
def test_the_ways_to_llama_cpp(gpu: str, cuda118: bool, tools: list[str], ways: list[str]) -> None:
    assert [build.wheels or build.cmake for build in llama_plan(gpu, cuda118, tools)] == ways


def test_the_last_way_asks_for_nothing_that_a_processor_may_lack() -> None:
    assert LESS[0] == "-DGGML_NATIVE=OFF"
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX=OFF", "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF"} <= set(LESS[1].split())
