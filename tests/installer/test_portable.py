"""The portable archive: a Python that was moved finds its packages, and the start takes it for finished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import one_click
from installer import make_portable as portable
from installer.environment.fingerprints import fingerprints
from installer.environment.plan import ANYWHERE, what_to_install
from installer.errors import InstallStopped
from installer.hardware.processor import cpu_fingerprint
from installer.layout import Layout
from installer.state import read_state, write_state
from tests.installer.stage import finished


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A git clone whose installation is this Python with one package of it."""
    if Path(sys.base_prefix) == Path("/usr"):
        pytest.skip("Debian's Python cannot be moved")
    layout = Layout(tmp_path / "clone")
    for name in ("server.py", "tests/test_x.py", "models/README.md", "start_linux.sh"):
        (layout.root / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.root / name).write_text(name)
    (layout.root / "pyproject.toml").write_text('[project]\nversion = "9.8.7"\n')
    layout.requirements.write_text("llama-cpp-python==9\npackaging==1.0 \\\n    --hash=sha256:0\n")
    (layout.root / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf").write_text("GGUF")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for command in (
        ["init", "-q"],
        ["add", "server.py", "tests", "pyproject.toml", "requirements.txt", "start_linux.sh"],
    ):
        subprocess.run([*git, *command], cwd=layout.root, check=True)
    layout.files.mkdir()
    layout.env.symlink_to(sys.prefix)
    write_state(layout, {"gpu": "N", "complete": True, "root": str(layout.root), "parts": fingerprints(layout)})
    monkeypatch.setattr(portable, "_check_llama", lambda layout, packages: None)
    monkeypatch.setattr(portable, "_try", lambda made: None)
    return layout


def test_it_runs_where_it_was_unpacked(clone: Layout, tmp_path: Path) -> None:
    archive = portable.make_portable(clone.root, tmp_path / "dist")
    assert archive.name.startswith("text-generation-webui-9.8.7-")
    there = tmp_path / "some where ü"
    with tarfile.open(archive) as file:
        file.extractall(there, filter="tar")
    (root,) = there.iterdir()
    layout = Layout(root)
    files = {each.relative_to(root).as_posix() for each in root.rglob("*") if each.is_file()}
    assert {"server.py", "models/SmolLM2-135M-Instruct.Q4_1.gguf"} <= files
    assert not [name for name in files if name.startswith("tests/")]
    asked = "import packaging, ssl, json, sys; print(json.dumps([sys.prefix, packaging.__file__]))"
    ran = subprocess.run([layout.python, "-I", "-c", asked], capture_output=True, text=True, env={}, check=True)
    assert all(str(root) in each for each in json.loads(ran.stdout))
    if Path("/proc/self/maps").exists():  # a shared library of Python, if it has one, is the packed one
        asked = "print(*[x.split()[5:] for x in open('/proc/self/maps') if '/libpython' in x], sep='\\n')"
        ran = subprocess.run([layout.python, "-I", "-c", asked], capture_output=True, text=True, env={}, check=True)
        assert all(root.name in line for line in ran.stdout.splitlines() if line)
    state = read_state(layout)
    assert state["root"] == ANYWHERE
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert what_to_install(layout, {**state, "python": version}, {}) == ("", False)


def test_a_folder_is_that_of_the_one_who_asks_and_help_is_none(
    clone: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = portable.make_portable
    monkeypatch.setattr(portable, "make_portable", lambda root, folder: made(clone.root, folder))
    tried = list[Path]()
    monkeypatch.setattr(portable, "_try", tried.append)
    (tmp_path / "asker").mkdir()
    monkeypatch.chdir(tmp_path / "asker")
    assert portable.main(["to here"]) == 0
    assert len(list((tmp_path / "asker" / "to here").glob("*.tar.gz"))) == 1
    assert [made.is_absolute() for made in tried] == [True]
    with pytest.raises(SystemExit) as ended:
        portable.main(["--help"])
    assert (ended.value.code, "usage:" in capsys.readouterr().out) == (0, True)
    assert [each.name for each in (tmp_path / "asker").iterdir()] == ["to here"]


def test_only_a_finished_installation_is_packed(clone: Layout, tmp_path: Path) -> None:
    write_state(clone, {**read_state(clone), "complete": False})
    with pytest.raises(InstallStopped, match="Install the program first"):
        portable.make_portable(clone.root, tmp_path / "dist")


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """An unpacked archive's installation, whose Python runs this: it is no environment of another Python."""
    layout = Layout(tmp_path)
    layout.requirements.write_text("gradio==1\nllama-cpp-python==9\n", "utf-8")
    finished(layout, root=ANYWHERE, llama="the processor", processor="another", parts=fingerprints(layout))
    monkeypatch.setattr(sys, "prefix", str(layout.env))
    monkeypatch.setattr(sys, "base_prefix", str(layout.env))
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it would start itself, again and again"))
    return layout


def test_on_another_processor_the_archive_tests_its_llama_and_stays_movable(unpacked: Layout) -> None:
    one_click.prepare(unpacked, [])
    state = read_state(unpacked)
    assert "100 tokens" in state["llama_how"]
    assert (state["processor"], state["root"], state["complete"]) == (cpu_fingerprint(), ANYWHERE, True)


@pytest.mark.parametrize("changed", [{}, {"fingerprint": "older", "parts": {}}])
def test_what_needs_another_environment_is_refused_in_an_archive(unpacked: Layout, changed: dict[str, object]) -> None:
    write_state(unpacked, {**read_state(unpacked), **changed})
    with pytest.raises(InstallStopped, match="Unpack the archive again"):
        one_click.prepare(unpacked, [], anew=not changed, asked=True)
    assert unpacked.python.exists()
