"""Which prebuilt llama.cpp exists: index pages as the recorded workflows fill them, and uv resolving from them.

The pages are made here from tests/installer/recorded/workflows.json and served from this machine. They hold the names
that the workflows give to packages; that the packages were ever uploaded, or run, is not tried.
"""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import os
import re
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from docs.cards import Row, cards_table, rows
from installer.environment.requirements import llama_requirement
from installer.layout import Layout
from installer.llama_cpp.llama_builds import (
    CUDA_WHEELS,
    GLIBC,
    HIP,
    METAL,
    PROCESSOR,
    ROCM,
    VULKAN,
    LlamaBuild,
    plan_llama_builds,
)

ROOT = Path(__file__).resolve().parents[2]
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "workflows.json").read_text("utf-8"))
BUILDS = [*CUDA_WHEELS.values(), VULKAN, ROCM, HIP, METAL, PROCESSOR[0]]
#: What uv calls the systems of Machine.place; on Linux with a glibc.
PLATFORMS = {
    "Windows x86_64": "x86_64-pc-windows-msvc",
    "Linux x86_64": "x86_64-manylinux_{}_{}",
    "Linux arm64": "aarch64-manylinux_{}_{}",
    "macOS arm64": "aarch64-apple-darwin",
    "macOS x86_64": "x86_64-apple-darwin",
}
_TAGS = {"windows": ["win_amd64"], "macos": ["macosx_14_0_arm64"], "ubuntu": ["manylinux_2_35_x86_64"]}
_IN_IMAGE = {
    "x86_64": "manylinux2014_x86_64.manylinux_2_17_x86_64",
    "arm64": "manylinux2014_aarch64.manylinux_2_17_aarch64",
}


def tags(index: str) -> list[str]:
    """The platforms of the packages that the workflows upload to an index."""
    if index.startswith("cu"):
        made = RECORDED["cuda"]
        version = next(each for each in made["versions"] if "cu" + "".join(each.split(".")[:2]) == index)
        systems = [each for each in made["systems"] if [each, version] not in made["excluded"]]
        return _of(systems)
    made = RECORDED[index]
    in_image = [_IN_IMAGE[processor] for processor in ("x86_64", "arm64") if made.get(f"{processor} image")]
    if in_image:
        return in_image + _of([each for each in made["systems"] if not each.startswith("ubuntu")])
    return _of(made["systems"])


def _of(systems: list[str]) -> list[str]:
    return sorted({tag for system in systems for tag in _TAGS[system.partition("-")[0]]})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str, tuple[int, ...]], bool]]:
    """Whether an index has a package for a system (place, glibc), according to uv; each question is asked once."""
    folder = tmp_path_factory.mktemp("indexes")
    name = f"llama_cpp_python-{RECORDED['version']}"
    for index in RECORDED["indexes"]:
        page = folder / index / "llama-cpp-python"
        page.mkdir(parents=True)
        for tag in tags(index):
            with zipfile.ZipFile(page / f"{name}-py3-none-{tag}.whl", "w") as wheel:
                about = f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {RECORDED['version']}\n"
                wheel.writestr(f"{name}.dist-info/METADATA", about)
                wheel.writestr(f"{name}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: py3-none-{tag}\n")
                wheel.writestr(f"{name}.dist-info/RECORD", "")
        links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>\n' for wheel in page.glob("*.whl"))
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")

    class Pages(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cache = tmp_path_factory.mktemp("cache")

    @functools.cache
    def ask(index: str, place: str, glibc: tuple[int, ...]) -> bool:
        command = [
            *(
                find_uv_bin(),
                "pip",
                "compile",
                "--quiet",
                "--only-binary",
                ":all:",
                "--no-deps",
                "--no-python-downloads",
                "-",
            ),
            *("--python-version", "3.12", "--python-platform", PLATFORMS[place].format(*glibc)),
            *("--default-index", f"http://127.0.0.1:{server.server_port}/{index}", "--cache-dir", str(cache)),
        ]
        environ = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0", "NO_PROXY": "127.0.0.1"}
        wanted = f"llama-cpp-python=={RECORDED['version']}"
        ran = subprocess.run(command, input=wanted, capture_output=True, text=True, env=environ, check=False)
        assert ran.returncode == 0 or "wheels" in ran.stderr or "not found" in ran.stderr, ran.stderr
        return ran.returncode == 0 and wanted in ran.stdout

    yield ask
    server.shutdown()
    server.server_close()


def test_what_is_recorded_is_of_the_version_that_is_installed() -> None:
    assert llama_requirement(Layout(ROOT)) == f"llama-cpp-python=={RECORDED['version']}", (
        "record the workflows of the new version: tests/installer/recorded/record.py"
    )


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.wheels)
@pytest.mark.parametrize("place", PLATFORMS)
def test_the_builds_are_those_that_the_workflows_make(
    found: Callable[[str, str, tuple[int, ...]], bool], build: LlamaBuild, place: str
) -> None:
    assert found(build.wheels, place, GLIBC) is (place in build.places)
    if place.startswith("Linux"):
        by_glibc = build.kind in ("CUDA", "ROCm")
        assert found(build.wheels, place, (2, 31)) is (place in build.places and not by_glibc)


@pytest.mark.parametrize("build", CUDA_WHEELS.values(), ids=lambda build: build.wheels)
def test_the_cards_are_those_that_the_workflow_compiles_for(build: LlamaBuild) -> None:
    usual, before_12, from_13 = (each.split(";") for each in RECORDED["cuda"]["architectures"])
    assert build.code
    version = tuple(map(int, build.code.cuda.split(".")))
    compiled = before_12 if version < (12, 0) else from_13 if version >= (13, 0) else usual
    real = [each.partition("-")[0] for each in compiled if each.endswith("-real")]
    assert build.code.oldest == (int(real[0][:-1]), int(real[0][-1]))
    assert build.code.newest == (int(real[-1][:-1]), int(real[-1][-1]))
    assert build.code.ptx is any(each.endswith("-virtual") for each in compiled)
    assert any(each.startswith(f"{build.code.cuda}.") for each in RECORDED["cuda"]["versions"])


def test_what_is_said_of_layers_on_the_processor_is_what_the_workflows_set() -> None:
    assert RECORDED["cuda"]["native off"] is False, "what the builder's processor had"
    assert (
        RECORDED["cpu"]["native off"] == ["environment", "linux", "macos"]
        or "windows" not in RECORDED["cpu"]["native off"]
    )
    assert RECORDED["vulkan"]["native off"] == len(RECORDED["vulkan"]["systems"])
    assert RECORDED["rocm72"]["AVX off"]


@pytest.mark.parametrize(
    "row", rows(), ids=lambda row: re.sub(r"\W+", "-", f"{row.machine.place}{row.machine.glibc}-{row.card}")
)
def test_each_row_of_the_table_finds_what_it_says(found: Callable[[str, str, tuple[int, ...]], bool], row: Row) -> None:
    machine = row.machine
    there = [way.name for way in row.ways if way.wheels and found(way.wheels, machine.place, machine.glibc)]
    assert [way.name for way in row.found] == there
    assert row.ways[-1] is PROCESSOR[-1], "every plan ends with the processor"
    card = row.gpu in "ABCD"
    assert bool([way for way in row.found if way.kind]) is card, "a card finds a package made for it"


def test_the_table_stands_in_the_guide() -> None:
    assert cards_table() in (ROOT / "docs" / "getting-started.md").read_text("utf-8")


@pytest.mark.parametrize("gpu", "ABCDN")
def test_ready_made_comes_first_and_the_processor_last(gpu: str) -> None:
    machines = [None, *{row.machine: None for row in rows()}]
    tools: tuple[str, ...] = ("nvcc", "hipcc", "glslc")
    for cuda118, cuda128, there, machine in itertools.product((False, True), (False, True), ((), tools), machines):
        plan = plan_llama_builds(gpu, cuda118, there, cuda128, machine)
        assert plan[-3:] == list(PROCESSOR[1:])
        kinds = ["ready" if way.wheels else "compiled" for way in plan if way.kind]
        assert kinds == sorted(kinds, reverse=True), "what is ready-made is tried before a compiler is looked for"
        on_card = [bool(way.kind) for way in plan]
        assert on_card == sorted(on_card, reverse=True)
