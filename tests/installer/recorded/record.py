"""Records the output of llama-cpp-python's release workflows from its source package: `record.py FOLDER VERSION`.

FOLDER is the unpacked source package. Kept are the facts that decide which package exists and what is in it, each with
the SHA-256 of the file that it was read from, so that a change is noticed when the version is raised.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import yaml


def record(folder: Path, version: str) -> dict[str, object]:
    """All facts, as written to workflows.json."""
    texts = {file.name: file.read_text("utf-8") for file in sorted((folder / ".github" / "workflows").glob("*.yaml"))}
    cuda, release, vulkan, rocm, metal, index = (
        texts[f"{name}.yaml"]
        for name in (
            "build-wheels-cuda",
            "build-and-release",
            "build-wheels-vulkan",
            "build-wheels-rocm",
            "build-wheels-metal",
            "generate-index-from-release",
        )
    )
    jobs = yaml.safe_load(release)["jobs"]
    wheels = jobs["build_wheels"]
    environ = next(step["env"] for step in wheels["steps"] if step.get("name") == "Build wheels")
    arm = next(step["env"] for step in jobs["build_wheels_arm64"]["steps"] if step.get("name") == "Build wheels")
    windows_hip = yaml.safe_load(rocm)["jobs"]["build_wheels_windows_hip"]
    return {
        "version": version,
        "indexes": re.findall(r"index/whl/([\w-]+) ", index),
        "cuda": {
            "versions": re.findall(r'"(\d+\.\d+\.\d+)"', _line(cuda, "'cuda' = @(")),
            "systems": re.findall(r"'([\w.-]+)'", _line(cuda, "'os' = @(").partition("@(")[2]),
            "excluded": re.findall(r"'os' = '([\w.-]+)'; 'cuda' = '([\d.]+)'", cuda),
            "architectures": re.findall(r'\$cudaArchs = "([^"]+)"', cuda),
            "native off": "GGML_NATIVE" in cuda,
            "tags repaired on": re.findall(r"auditwheel_bin.*repair", cuda) != [] and "ubuntu-22.04",
        },
        "cpu": {
            "systems": wheels["strategy"]["matrix"]["os"],
            "x86_64 image": environ["CIBW_MANYLINUX_X86_64_IMAGE"],
            "arm64 image": arm["CIBW_MANYLINUX_AARCH64_IMAGE"],
            "native off": sorted(
                name.rpartition("_")[2].lower() for name, value in environ.items() if "GGML_NATIVE=off" in str(value)
            ),
        },
        "vulkan": {
            "systems": [each["os"] for each in _include(vulkan, "build_wheels")],
            "x86_64 image": "manylinux2014" if 'CIBW_MANYLINUX_X86_64_IMAGE: "manylinux2014"' in vulkan else "",
            "native off": vulkan.count("GGML_NATIVE=off"),
        },
        "rocm72": {
            "systems": [each["os"] for each in _include(rocm, "build_wheels")],
            "versions": [each["rocm"] for each in _include(rocm, "build_wheels")],
            "AVX off": "-DGGML_AVX=off" in rocm,
        },
        "hip-radeon": {
            "systems": [windows_hip["runs-on"]],
            "architectures": _include(rocm, "build_wheels_windows_hip")[0]["amdgpu_targets"],
        },
        "metal": {
            "systems": yaml.safe_load(metal)["jobs"]["build_wheels"]["strategy"]["matrix"]["os"],
            "processors": re.findall(r'CIBW_ARCHS: "(\w+)"', metal),
        },
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items() if _kept(name)},
    }


def _kept(name: str) -> bool:
    return name.startswith(("build-wheels", "build-and-release", "generate-index"))


def _line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def _include(text: str, job: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = yaml.safe_load(text)["jobs"][job]["strategy"]["matrix"]["include"]
    return found


if __name__ == "__main__":
    made = json.dumps(record(Path(sys.argv[1]), sys.argv[2]), indent=1)
    Path(__file__).with_name("workflows.json").write_text(made + "\n", "utf-8")
