"""In-place changes of the present environment: if one fails, the whole environment is unchanged.

Each kind of such work, with a fault in each of its steps; the environments are compared file by file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from installer.layout import Layout
from installer.llama_cpp import library_pointer
from tests.installer.starts import Machine, copied

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its Pythons are shell scripts")


def _llama(machine: Machine) -> list[str]:
    machine.require("gradio==1.0", "llama-cpp-python==10")
    return []


def _torch(machine: Machine) -> list[str]:
    (machine.root / "requirements-torch.txt").write_text("transformers==2\n")
    return []


def _both(machine: Machine) -> list[str]:
    _llama(machine)
    return _torch(machine)


def _processor(machine: Machine) -> list[str]:
    machine.remember(processor="another")
    shutil.rmtree(machine.root.parent / "cache")
    return []


def _libraries(machine: Machine) -> list[str]:
    library_pointer.write_pointer(Layout(machine.root), "b1-gone")
    shutil.rmtree(machine.root.parent / "cache")
    return []


def _asked(machine: Machine) -> list[str]:
    _torch(machine)
    return ["--install-torch"]


@pytest.fixture(scope="session")
def installed_with_torch(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = copied(installed, tmp_path_factory.mktemp("torch") / "there")
    assert machine.start("--install-torch").code == 0
    assert machine.state["torch"] is True
    return machine.root.parent


@pytest.fixture
def with_torch(installed_with_torch: Path, tmp_path: Path) -> Machine:
    return copied(installed_with_torch, tmp_path / "copy")


def contents(machine: Machine) -> dict[str, bytes]:
    """Each file of the environment with its contents."""
    env = machine.root / "installer_files" / "env"
    return {str(path.relative_to(env)): path.read_bytes() for path in sorted(env.rglob("*")) if path.is_file()}


FAULTS = [
    (_llama, "compile:fail"),
    (_llama, "llama:fail"),
    (_llama, "trial:crash"),
    (_llama, "imports:fail"),
    (_llama, "llama:kill"),
    (_torch, "torch:full"),
    (_torch, "torch-packages:hash"),
    (_torch, "imports:fail"),
    (_torch, "torch-packages:kill"),
    (_both, "torch:network"),
    (_both, "torch-packages:kill"),
    (_processor, "trial:crash"),
    (_processor, "trial:once compile:fail"),
    (_processor, "trial:once llama:kill"),
    (_processor, "imports:fail"),
    (_libraries, "compile:fail"),
    (_libraries, "trial:crash"),
    (_libraries, "llama:kill"),
    (_asked, "torch:fail"),
    (_asked, "torch-packages:full"),
    (_asked, "torch-packages:kill"),
    (_asked, "trial:crash"),
]


@pytest.mark.parametrize(("work", "faults"), FAULTS)
def test_what_fails_in_place_leaves_all_as_it_was(
    with_torch: Machine, work: Callable[[Machine], list[str]], faults: str
) -> None:
    arguments = work(with_torch)
    before, state = contents(with_torch), with_torch.state
    with_torch.fault(*faults.split())
    ended = with_torch.start(*arguments)
    if ended.killed:
        with_torch.fault()
        assert with_torch.start().runs
    else:
        assert ended.code == 1 or "The previous environment is used" in ended.out, ended.all
    assert contents(with_torch) == before
    assert {name: value for name, value in with_torch.state.items() if name != "held"} == state
    assert sorted(path.name for path in (with_torch.root / "installer_files").glob("*env*")) == ["env"]
    with_torch.fault()
    with_torch.remember(held=None)
    assert with_torch.start(*arguments).code == 0
    last = with_torch.start()
    assert last.runs
    assert not last.installs
    assert contents(with_torch) != before or work is _processor


def test_torch_that_nobody_asked_for_leaves_nothing_half_made(finished: Machine) -> None:
    """It is installed automatically with an NVIDIA GPU; if that fails, llama.cpp is installed, and nothing of torch."""
    finished.fault("torch:network")
    ended = finished.start(GPU_CHOICE="A")
    assert ended.runs, ended.all
    assert "run --install-torch to try again" in ended.out
    assert finished.state["torch"] is False
    assert not any("torch" in name for name in contents(finished))


def _wheel(folder: Path, name: str, version: int) -> str:
    """A package with one file, which all of them contain."""
    info, target = f"{name}-{version}.dist-info", folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        "shared.py": f"{name} {version}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(target, "w") as made:
        for path, text in files.items():
            made.writestr(path, text)
        made.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD")))
    return str(target)


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_installers_replace_files_and_never_write_into_them(tmp_path: Path, tool: str) -> None:
    """The changed environment has hard links to the old one's files (in_place_update.py): those must not change."""
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    python = str(env / "bin" / "python")
    command = {
        "uv": [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--python", python],
        "pip": [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"],
    }[tool]
    environ = {**os.environ, "UV_LINK_MODE": "copy"}
    before = None
    for name, version in (("one", 1), ("one", 2), ("two", 1)):
        wheel = _wheel(tmp_path, name, version)
        subprocess.run([*command, "--no-deps", wheel], check=True, env=environ)
        (file,) = env.glob("lib/python3*/site-packages/shared.py")
        assert file.read_text() == f"{name} {version}"
        if before:
            assert before[0].read_text() == before[1]
        kept = tmp_path / f"kept-{name}-{version}"
        os.link(file, kept)
        before = (kept, file.read_text())
