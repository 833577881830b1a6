"""llama.cpp's release builds: which fit which machine, their rank in a plan, and that none is used without a hash."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from installer.hardware.nvidia import NvidiaGpu
from installer.llama_cpp import release_table
from installer.llama_cpp.llama_builds import PROCESSOR, LlamaBuild, plan_llama_builds
from installer.llama_cpp.release_table import (
    TABLE,
    LlamaReleaseBuild,
    ReleasePins,
    fitting_releases,
    merge_releases,
    prefers_releases,
)

ROOT = Path(__file__).parents[3]
ALL = [release for kinds in TABLE.values() for release in kinds.values()]


def names(found: list[LlamaReleaseBuild]) -> list[str]:
    return [release.name.partition(" (")[0] for release in found]


@pytest.mark.parametrize(
    ("system", "machine", "gpu", "card", "expected"),
    [
        ("Windows", "AMD64", "N", None, ["the processor"]),
        ("Windows", "AMD64", "B", None, ["Vulkan", "the processor"]),
        ("Windows", "AMD64", "D", None, ["Vulkan", "the processor"]),
        (
            "Windows",
            "AMD64",
            "A",
            NvidiaGpu("card", (8, 9), (591, 65)),
            ["CUDA 12.4", "CUDA 13.4", "Vulkan", "the processor"],
        ),
        (
            "Windows",
            "AMD64",
            "A",
            NvidiaGpu("card", (12, 0), (591, 65)),
            ["CUDA 13.4", "CUDA 12.4", "Vulkan", "the processor"],
        ),
        ("Windows", "AMD64", "A", NvidiaGpu("card", (5, 2), (591, 65)), ["CUDA 12.4", "Vulkan", "the processor"]),
        ("Windows", "AMD64", "A", NvidiaGpu("card", (8, 9), (550, 65)), ["CUDA 12.4", "Vulkan", "the processor"]),
        ("Windows", "AMD64", "A", None, ["CUDA 12.4", "CUDA 13.4", "Vulkan", "the processor"]),
        ("Windows", "ARM64", "N", None, ["the processor"]),
        (
            "Linux",
            "x86_64",
            "A",
            NvidiaGpu("card", (12, 0), (580, 65)),
            ["CUDA 12.8", "CUDA 13.4", "Vulkan", "the processor"],
        ),
        ("Linux", "x86_64", "B", None, ["Vulkan", "the processor"]),
        ("Linux", "aarch64", "A", NvidiaGpu("card", (8, 7), (580, 65)), ["CUDA 13.4", "Vulkan", "the processor"]),
        ("Linux", "riscv64", "N", None, []),
        ("Darwin", "arm64", "C", None, ["Metal"]),
        ("Darwin", "x86_64", "N", None, ["the processor"]),
        ("FreeBSD", "amd64", "N", None, []),
    ],
)
def test_which_fit(system: str, machine: str, gpu: str, card: NvidiaGpu | None, expected: list[str]) -> None:
    assert names(fitting_releases(system, machine, gpu, card)) == expected


def test_what_reaches_the_card_is_known() -> None:
    assert {release.kind for release in ALL} == {"CUDA", "Vulkan", "Metal", ""}


_CUDA = ("+CUDA 12.8", "+CUDA 13.4")


@pytest.mark.parametrize(
    ("gpu", "first", "expected"),
    [
        ("N", True, ["+the processor", "cpu", "", "", ""]),
        ("N", False, ["cpu", "+the processor", "", "", ""]),
        ("A", True, [*_CUDA, "cu", "cu", "+Vulkan", "vulkan", "+the processor", "cpu", "", "", ""]),
        ("A", False, ["cu", "cu", *_CUDA, "vulkan", "+Vulkan", "cpu", "+the processor", "", "", ""]),
        ("B", True, ["+Vulkan", "vulkan", "rocm", "hip-radeon", "+the processor", "cpu", "", "", ""]),
    ],
)
def test_where_they_stand(gpu: str, first: bool, expected: list[str]) -> None:
    plan = merge_releases(
        [*plan_llama_builds(gpu, False, [])],
        fitting_releases("Linux", "x86_64", gpu, NvidiaGpu("", (8, 9), (580, 65))),
        first=first,
    )
    assert [
        f"+{build.name.partition(' (')[0]}"
        if isinstance(build, LlamaReleaseBuild)
        else build.wheels.rstrip("0123456789")
        for build in plan
    ] == expected


def test_what_is_compiled_for_a_card_comes_before_the_processor() -> None:
    compiled = LlamaBuild("Vulkan", cmake="-DGGML_VULKAN=on")
    plan = merge_releases([compiled, *PROCESSOR], fitting_releases("Linux", "x86_64", "B"), first=False)
    assert [build.name.partition(" (")[0] for build in plan[:4]] == 2 * ["Vulkan"] + 2 * ["the processor"]
    assert isinstance(plan[0], LlamaReleaseBuild)


@pytest.mark.parametrize(
    ("system", "machine", "gpu", "compiler", "first"),
    [
        ("Windows", "AMD64", "N", True, True),
        ("Windows", "AMD64", "A", True, True),
        ("Linux", "x86_64", "B", True, True),
        ("Linux", "x86_64", "D", True, True),
        ("Linux", "x86_64", "N", False, True),
        ("Linux", "x86_64", "N", True, False),
        ("Linux", "x86_64", "A", True, False),
        ("Darwin", "x86_64", "N", True, True),
        ("Darwin", "arm64", "C", True, False),
    ],
)
def test_where_they_come_first(system: str, machine: str, gpu: str, compiler: bool, first: bool) -> None:
    assert prefers_releases(system, machine, gpu, compiler=compiler) is first


RELEASE = LlamaReleaseBuild("Vulkan", archives=("a", "b"), glibc=(2, 35))
PINS = ReleasePins("llama-cpp-python==9", "b1", "http://x", {"a": "0" * 64, "b": "1" * 64})


@pytest.mark.parametrize(
    ("pins", "libc", "why"),
    [
        (PINS, (2, 35), ""),
        (PINS, (2, 34), "it requires glibc 2.35"),
        (PINS, (0, 0), "it requires glibc 2.35"),
        (ReleasePins("llama-cpp-python==9", "", "", {"a": "0", "b": "0"}), (2, 40), "no release is named"),
        (
            ReleasePins("llama-cpp-python==8", "b1", "", {"a": "0", "b": "0"}),
            (2, 40),
            "is for llama-cpp-python==8, but llama",
        ),
        (ReleasePins("llama-cpp-python==9", "b1", "", {"a": "0", "b": ""}), (2, 40), "no SHA-256 for b"),
        (ReleasePins(), (2, 40), "no release is named"),
    ],
)
def test_why_one_is_passed_over(pins: ReleasePins, libc: tuple[int, int], why: str) -> None:
    found = pins.why_not(RELEASE, "llama-cpp-python==9", libc)
    assert why in found
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"binding": "x"}', '{"binding": "", "tag": "", "address": "", "sha256": 1}']
)
def test_a_file_that_cannot_be_read_pins_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pins.json").write_text(text)
    assert ReleasePins.read(tmp_path / "pins.json").why_not(RELEASE, "llama-cpp-python==9", (9, 9))
    assert not ReleasePins.read(tmp_path / "gone.json").tag


def test_the_file_names_every_archive_and_fits_the_pinned_binding() -> None:
    text = json.loads(release_table.PINS.read_text("utf-8"))
    assert set(text["sha256"]) == {name for release in ALL for name in release.archives}
    assert all(re.fullmatch(r"|[0-9a-f]{64}", sha256) for sha256 in text["sha256"].values())
    assert re.fullmatch(r"|b\d+", text["tag"])
    assert text["tag"] or not any(text["sha256"].values())
    assert text["binding"] in (ROOT / "requirements.txt").read_text("utf-8").split()
    library = (ROOT / "loaders" / "llamacpp" / "library.py").read_text("utf-8")
    version = text["binding"].rpartition("=")[2]
    assert f'BINDING, COMMIT = "{version}", "{text["commit"]}"' in library, "the guard and the release differ"
