"""A new environment beside the old one: the old one is kept, and restored automatically or on request."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import one_click
from installer import project
from installer.environment import additions, rollback
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.state import read_state, write_state
from installer.torch import torch_packages
from modules.config.user_data import SHIPPED
from tests.installer.stage import finished

ROOT = Path(__file__).resolve().parents[3]


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
        raise InstallStopped("The network went away.")

    monkeypatch.setattr(one_click, "fill_environment", half)
    with pytest.raises(InstallStopped, match="went away"):
        one_click.install(layout, (), True, {})
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

    monkeypatch.setattr(one_click, "fill_environment", whole)
    one_click.install(layout, (), True, {})
    assert marked(layout) == "new"
    assert rollback.go_back(layout)
    assert (marked(layout), read_state(layout)) == ("old", before)
    assert rollback.go_back(layout)
    assert (marked(layout), read_state(layout)["python"]) == ("new", "3.12")


def test_after_a_crash_the_next_start_brings_the_old_one_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished(layout)
    mark(layout, "old")
    assert rollback.set_aside(layout)
    layout.env.mkdir()  # and here the power failed
    write_state(layout, {"complete": False})
    monkeypatch.setattr(one_click, "what_to_install", lambda *_: ("", False))
    one_click.prepare(layout, [])
    assert (marked(layout), read_state(layout)) == ("old", before)
    assert "did not finish; the previous environment was restored" in capsys.readouterr().out


@contextlib.contextmanager
def another_installation(layout: Layout) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock until it gets a line of input."""
    code = (
        "import sys; from pathlib import Path; from installer.layout import Layout; from installer.lock import "
        "install_lock"
        "\nwith install_lock(Layout(Path(sys.argv[1]))): print('locked', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(layout.root)]
    with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def _start(layout: Layout) -> None:
    one_click.prepare(layout, [])


def _requirements(layout: Layout) -> None:
    one_click.install_requirements("some.txt")


@pytest.mark.skipif(os.name == "nt", reason="there is no lock on Windows")
@pytest.mark.parametrize("ends", ["done", "failed", "killed"])
@pytest.mark.parametrize("entry", [_start, rollback.go_back, additions.add_torch, _requirements])
def test_nothing_changes_an_environment_that_another_process_is_making(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    entry: Callable[[Layout], object],
    ends: str,
) -> None:
    """Anything started meanwhile waits, and then sees how the other one ended: nothing is read before that."""
    before = finished(layout)
    mark(layout, "old")
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr(
        one_click, "what_to_install", lambda layout, state, _: ("" if state.get("complete") else "x", True)
    )
    monkeypatch.setattr(one_click, "install", lambda *_: pytest.fail("a finished environment was there"))
    monkeypatch.setattr(one_click, "check_machine", lambda *_: None)
    monkeypatch.setattr(additions, "Runner", lambda layout, lock: layout)
    monkeypatch.setattr(additions, "Packages", _Added)
    monkeypatch.setattr(torch_packages, "add_torch_packages", lambda packages, _, *, asked: packages.install())
    rollback.set_aside(layout)
    layout.env.mkdir()
    mark(layout, "half made")
    said: list[str] = []

    def run() -> None:
        try:
            entry(layout)
        except InstallStopped as sentence:
            said.append(str(sentence))

    with another_installation(layout) as other:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while "waiting for it" not in capsys.readouterr().out and thread.is_alive():
            thread.join(0.02)
        assert thread.is_alive(), said or "it did not wait"
        assert marked(layout) == "half made"
        assert layout.last.exists()
        if ends == "done":
            mark(layout, "new")
            write_state(layout, {**before, "complete": True})
        elif ends == "failed":
            rollback.restore_previous(layout)
        other.kill()
    thread.join(60)
    assert not thread.is_alive()
    half = ends == "killed" and entry in (additions.add_torch, _requirements)
    new = ends == "done" and entry is not rollback.go_back
    assert marked(layout) == ("half made" if half else "new" if new else "old")
    if half:
        assert "not complete" in said[0]
        assert layout.last.exists(), "the next start brings it back"
        assert not (layout.env / "added").exists()
    elif ends == "failed" and entry is rollback.go_back:
        assert "no previous environment" in said[0]
    else:
        assert not said
        assert (layout.env / "added").exists() == (entry in (additions.add_torch, _requirements))


class _Added:
    """Packages that leave a file in the environment."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def read_settings(self) -> None:
        pass

    def install_lock(self, _: Path) -> None:
        self.install()

    def install(self, *_: str, what: str = "") -> None:
        del what
        (self.layout.env / "added").touch()


def test_when_all_is_there_nothing_waits_and_nothing_changes(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished(layout)
    monkeypatch.setattr(one_click, "what_to_install", lambda *_: ("", False))
    with another_installation(layout) if os.name != "nt" else contextlib.nullcontext():
        one_click.prepare(layout, [])
    assert capsys.readouterr().out == ""
    assert read_state(layout) == before


def test_power_may_fail_as_soon_as_the_old_one_is_moved_aside(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    before = finished(layout)
    mark(layout, "old")
    assert rollback.set_aside(layout)
    monkeypatch.setattr(
        one_click, "what_to_install", lambda layout, *_: ("", False) if layout.env.exists() else ("x", True)
    )
    one_click.prepare(layout, [])
    assert (marked(layout), read_state(layout)) == ("old", before)


def test_nothing_to_go_back_to_and_nothing_to_keep_are_said(layout: Layout) -> None:
    with pytest.raises(InstallStopped, match="no previous environment"):
        rollback.go_back(layout)
    assert not rollback.set_aside(layout)
    finished(layout, complete=False)
    assert not rollback.set_aside(layout), "half an environment is not worth keeping"


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
    assert not project.update_project(here)
    (origin / "other").write_text("two\n")
    git(origin, "add", ".")
    git(origin, "commit", "-qm", "two")
    (here / "file").write_text("mine\n")
    assert project.update_project(here)
    assert (here / "other").read_text() == "two\n"
    assert (here / "file").read_text() == "mine\n"


#: What a file was, what the user and the new version made of it (None: deleted), and what it is then.
_BOTH_CHANGED = {
    "CMD_FLAGS.txt": ("# flags\n", "# flags\n--api\n", "# more\n", "# flags\n--api\n"),
    "presets/a.yaml": ("a: 1\n", "a: 2\n", "a: 3\n", "a: 2\n"),
    "presets/gone.yaml": ("a: 1\n", "a: 2\n", None, "a: 2\n"),
    "presets/deleted here.yaml": ("a: 1\n", None, "a: 3\n", None),
    "characters/same.yaml": ("a: 1\n", "a: 2\n", "a: 1\n", "a: 2\n"),
    "modules/x.py": ("1\n", "2\n", "3\n", "3\n"),
}


def _write(root: Path, files: Mapping[str, str | None]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).unlink(missing_ok=True)
        if text is not None:
            (root / name).write_text(text, "utf-8")


@pytest.mark.parametrize("which", [list(_BOTH_CHANGED), [name for name in _BOTH_CHANGED if "modules" not in name]])
@pytest.mark.parametrize("pulled", [False, True], ids=["by the update", "by git pull before"])
def test_a_file_that_both_have_changed_has_no_conflict_markers(
    clone: tuple[Path, Path], capsys: pytest.CaptureFixture[str], which: list[str], pulled: bool
) -> None:
    """Flags and presets stay as the user has them, the program's files are the new ones, and the next update works."""
    origin, here = clone
    versions = [{name: _BOTH_CHANGED[name][at] for name in which} for at in range(4)]
    _write(origin, versions[0])
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "two")
    assert project.update_project(here)
    _write(here, versions[1])
    _write(origin, versions[2])
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "three")
    if pulled:
        git(here, "pull", "--ff-only", "--autostash")
    assert project.update_project(here) is not pulled
    texts = {name: (here / name).read_text("utf-8") if (here / name).exists() else None for name in which}
    assert texts == versions[3]
    if not pulled:
        said = capsys.readouterr().out
        assert "yours is kept: CMD_FLAGS.txt" in said
        assert ("which is used: modules/x.py. Your changes are kept by git" in said) == ("modules/x.py" in which)
        left = subprocess.run(["git", "stash", "list"], cwd=here, capture_output=True, check=True).stdout
        assert bool(left) == ("modules/x.py" in which), "only what was replaced is kept there"
    assert not project.update_project(here)


def test_the_users_files_are_those_that_the_program_ships_for_them() -> None:
    """installer/ imports nothing of the program."""
    assert {name.rstrip("/") for name in project.USERS_FILES} == {*SHIPPED, "CMD_FLAGS.txt"}


def test_an_update_that_cannot_be_is_a_sentence(clone: tuple[Path, Path], tmp_path: Path) -> None:
    origin, here = clone
    origin.rename(tmp_path / "gone")
    with pytest.raises(InstallStopped, match="nothing was changed"):
        project.update_project(here)
    with pytest.raises(InstallStopped, match="not created by git clone"):
        project.update_project(tmp_path)


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
