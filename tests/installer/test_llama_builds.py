"""The ways to llama.cpp for each card, in order."""

from __future__ import annotations

import pytest

from installer.llama_builds import llama_plan


@pytest.mark.parametrize(
    ("gpu", "cuda118", "tools", "ways"),
    [
        ("N", False, ["nvcc"], ["cpu", ""]),
        ("A", False, [], ["cu121", "cu124", "cpu", ""]),
        ("A", True, [], ["cu118", "cpu", ""]),
        ("A", False, ["nvcc"], ["cu121", "cu124", "-DGGML_CUDA=on"]),
        ("B", False, [], ["cpu", ""]),
        ("B", False, ["hipcc", "glslc"], ["-DGGML_HIP=on"]),
        ("D", False, ["glslc"], ["-DGGML_VULKAN=on"]),
        ("C", False, [], ["metal", "-DGGML_METAL=on"]),
    ],
)
def test_the_ways_to_llama_cpp(gpu: str, cuda118: bool, tools: list[str], ways: list[str]) -> None:
    assert [build.wheels or build.cmake for build in llama_plan(gpu, cuda118, tools)] == ways
