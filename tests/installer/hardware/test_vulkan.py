"""Whether Vulkan's backend could be compiled, by the files on disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from installer.hardware import vulkan
from installer.hardware.machine import Machine
from installer.llama_cpp.llama_builds import excluded_builds, plan_llama_builds


def files(folder: Path, names: dict[str, str]) -> list[Path]:
    for name, text in names.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return [folder]


HEADER, STRUCTS = "include/vulkan/vulkan.hpp", "include/vulkan/vulkan_structs.hpp"
SPIRV = "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({}, "headers are missing .*libvulkan-dev glslc spirv-headers"),
        ({HEADER: "", STRUCTS: "struct LayerProperties", SPIRV: ""}, "too old"),
        ({HEADER: "", SPIRV: ""}, "too old"),
        ({HEADER: "", STRUCTS: "struct LayerSettingEXT"}, "SPIR-V headers are missing"),
        ({HEADER: "", STRUCTS: "struct LayerSettingEXT", SPIRV: ""}, "^$"),
        ({HEADER: "struct LayerSettingEXT", SPIRV: ""}, "^$"),
    ],
)
def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], says: str) -> None:
    monkeypatch.setattr(vulkan.shutil, "which", lambda _: "/usr/bin/glslc")
    monkeypatch.setattr(vulkan.os, "name", "posix")
    found = vulkan.compile_problem(files(tmp_path, names))
    assert re.search(says, found)


def test_without_its_compiler_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan.shutil, "which", lambda _: None)
    assert vulkan.compile_problem([tmp_path]) == ""


@pytest.mark.parametrize("gpu", ["B", "D"])
def test_the_processor_comes_next_and_the_reason_is_said(gpu: str) -> None:
    here = Machine(no_vulkan="are too old")
    assert excluded_builds(gpu, False, False, here)["Vulkan, compiled here"] == "are too old"
    plan = plan_llama_builds(gpu, False, here.tools, False, here)
    assert plan[-1].name == "any processor"
    assert not any("VULKAN" in build.cmake for build in plan)
