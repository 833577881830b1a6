"""A new environment beside the old: the old one is kept, comes back by itself, or on request."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import one_click
from installer import keeping, project
from installer.errors import Stop
from installer.layout import Layout
from installer.state import read_state, write_state
from tests.installer.stage import finished

ROOT = Path(__file__).resolve().parents[2]


def mark(layout: Layout, text: str) -> None:
    (layout.env / "mark").write_text(text)


def marked(layout: Layout) -> str:
    return (layout.env / "mark").read_text()


def test_what_fails_leaves_the_old_one_in_use(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = finished(layout)
    mark(layout, "old")

    def half(layout: Layout, *_: Any) -> None:
        layout.env.mkdir()
        write_state(layout, {"complete": False})
        raise Stop("The network went away.")

    monkeypatch.setattr(one_click, "install", half)
    with pytest.raises(Stop, match="went away"):
        one_click.replace(layout, (), new=True)
    assert marked(layout) == "old"
    assert read_state(layout) == before
    assert not layout.last.exists()


def test_what_succeeds_keeps_the_old_one_to_go_back_to_and_forth(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished(layout)
    mark(layout, "old")

    def whole(layout: Layout, *_: Any) -> None:
        layout.env.mkdir()
        mark(layout, "new")
        write_state(layout, {"complete": True, "python": "3.12"})

    monkeypatch.setattr(one_click, "install", whole)
    one_click.replace(layout, (), new=True)
    assert marked(layout) == "new"
    keeping.go_back(layout)
    assert (marked(layout), read_state(layout)) == ("old", before)
    keeping.go_back(layout)
    assert (marked(layout), read_state(layout)["python"]) == ("new", "3.12")


def test_after_a_crash_the_next_start_brings_the_old_one_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished(layout)
    mark(layout, "old")
    assert keeping.set_aside(layout)
    layout.env.mkdir()  # and here the power failed
    write_state(layout, {"complete": False})
    monkeypatch.setattr(one_click, "work_to_do", lambda *_: ("", False))
    one_click.prepare(layout, [])
    assert (marked(layout), read_state(layout)) == ("old", before)
    assert "did not finish; the environment before it is back" in capsys.readouterr().out


def test_nothing_to_go_back_to_and_nothing_to_keep_are_said(layout: Layout) -> None:
    with pytest.raises(Stop, match="no earlier environment"):
        keeping.go_back(layout)
    assert not keeping.set_aside(layout)
    finished(layout, complete=False)
    assert not keeping.set_aside(layout), "half an environment is not worth keeping"


# --- the project itself ---


def git(folder: Path, *command: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", "-C", str(folder), *who, *command], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, Path]:
    """(the origin, a clone of it)."""
    origin, here = tmp_path / "origin", tmp_path / "here"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    (origin / "file").write_text("one\n")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "one")
    git(tmp_path, "clone", "-q", str(origin), str(here))
    return origin, here


def test_an_update_fetches_what_is_new_and_keeps_own_changes(clone: tuple[Path, Path]) -> None:
    origin, here = clone
    assert not project.update(here)
    (origin / "other").write_text("two\n")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "two")
    (here / "file").write_text("mine\n")
    assert project.update(here)
    assert (here / "other").read_text() == "two\n"
    assert (here / "file").read_text() == "mine\n"


def test_an_update_that_cannot_be_is_a_sentence(clone: tuple[Path, Path], tmp_path: Path) -> None:
    origin, here = clone
    origin.rename(tmp_path / "gone")
    with pytest.raises(Stop, match="nothing was changed"):
        project.update(here)
    with pytest.raises(Stop, match="did not come from git clone"):
        project.update(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="POSIX shell scripts")
def test_the_shell_inside_the_environment(tmp_path: Path) -> None:
    script = tmp_path / "cmd_linux.sh"
    script.write_text((ROOT / "cmd_linux.sh").read_text())
    ran = subprocess.run(["sh", str(script), "true"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "start_linux.sh" in ran.stderr
    python = tmp_path / "installer_files" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho our python in $VIRTUAL_ENV\n")
    python.chmod(0o755)
    ran = subprocess.run(["sh", str(script), "python"], capture_output=True, text=True, check=False)
    assert f"our python in {tmp_path}/installer_files/env" in ran.stdout
