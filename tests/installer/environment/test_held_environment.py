"""An older environment in use: going back is permanent, and its version is shown; containers change nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import one_click
from installer import project
from installer.environment import held_environment, rollback
from installer.errors import InstallStopped
from installer.hardware import machine
from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu
from installer.layout import Layout
from installer.state import read_state, write_state
from tests.installer.stage import calls, finished, make_environment


def git(folder: Path, *command: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", "-C", str(folder), *who, *command], check=True, capture_output=True)


@pytest.fixture
def updated(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A git clone, with an environment for each of two commits."""
    monkeypatch.chdir(layout.root)  # one_click changes to it
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr(one_click, "launch", lambda *_: 0)
    monkeypatch.setattr(one_click, "install", lambda *_: pytest.fail("it was installed anew"))
    git(layout.root, "init", "-q")
    for text in ("gradio==1.0", "gradio==2.0"):
        layout.requirements.write_text(f"{text}\nllama-cpp-python==9\n")
        git(layout.root, "add", "requirements.txt")
        git(layout.root, "commit", "-qm", text)
        if layout.env.exists():
            assert rollback.set_aside(layout)
        finished(layout, commit=project.current_commit(layout.root))
    return layout


def start(*arguments: str) -> int:
    return one_click.main([*arguments])


def test_going_back_lasts_and_says_which_commit_it_belongs_to(
    updated: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, before = project.current_commit(updated.root), read_state(updated, updated.last_state)["commit"]
    assert start("--go-back") == 0
    said = capsys.readouterr().out
    assert (
        f"created for commit {before[:9]} of the program, but the program is now at {now[:9]}: run git checkout" in said
    )
    for choice in ("", "N"):
        monkeypatch.setenv("GPU_CHOICE", choice)
        assert start() == 0
        said = capsys.readouterr().out
        assert "older than this version of the program requires (you went back to it)" in said
        assert "[1/5]" not in said
    assert start("--go-back") == 0
    capsys.readouterr()
    assert start() == 0
    assert "older" not in capsys.readouterr().out


def test_what_was_gone_back_to_and_cannot_run_the_program_is_said(
    updated: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    (updated.last / "bin" / "no-import").touch()
    assert start("--go-back") == 0
    assert "It cannot run the current version of the program (ImportError: no such thing)" in capsys.readouterr().out
    assert start() == 1
    said = capsys.readouterr().err
    assert "went back to cannot run this version" in said
    assert "git checkout" in said
    assert "--go-back" in said


def test_something_newer_ends_going_back(updated: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start("--go-back") == 0
    done: list[Any] = []
    monkeypatch.setattr(one_click, "install", lambda *given: done.append(given))
    updated.requirements.write_text("gradio==3.0\nllama-cpp-python==9\n")
    one_click.prepare(updated, [])
    assert len(done) == 1


OTHERS = [
    Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (550, 54)),)),
    Machine(cards=(NvidiaGpu("RTX 5090", (12, 0), (570, 86)),)),
    Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (570, 86)),), processor="aarch64"),
    Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (570, 86)),), tools=("nvcc",)),
    Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (570, 86)),), adapters=(("0x1002", "0x73bf"),)),
    Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (570, 86)),), drivers=("libvulkan.so.1 7",)),
]


@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize("other", [None, *OTHERS])
def test_what_failed_is_tried_again_on_another_machine(
    updated: Layout, monkeypatch: pytest.MonkeyPatch, other: Machine | None, chosen: bool
) -> None:
    """Another GPU, driver, processor or compiler; but what the user went back to stays."""
    here = [Machine(cards=(NvidiaGpu("RTX 3060", (8, 6), (570, 86)),))]
    monkeypatch.setattr(machine, "detect_machine", lambda: here[0])
    tried: list[Any] = []
    monkeypatch.setattr(one_click, "install", lambda *given: tried.append(given))
    if chosen:
        assert start("--go-back") == 0
    else:
        write_state(updated, {**read_state(updated), "fingerprint": "old"})
        held_environment.hold_environment(
            updated, held_environment.desired_state(updated, read_state(updated), {}), "The driver is too old."
        )
    one_click.prepare(updated, [])
    assert not tried
    here[0] = other or here[0]
    one_click.prepare(updated, [])
    assert bool(tried) is (other is not None and not chosen)


def test_the_environment_before_can_be_thrown_away(updated: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    (updated.last / "large").write_bytes(bytes(3 * 2**20))
    assert start("--clean") == 0
    assert "which freed 3 MiB" in capsys.readouterr().out
    assert not updated.last.exists()
    assert not updated.last_state.exists()
    assert start("--clean") == 0
    assert "no previous environment to delete" in capsys.readouterr().out
    assert start("--go-back") == 1
    assert "no previous environment" in capsys.readouterr().err


def test_it_is_not_thrown_away_while_it_is_needed(updated: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(updated, {**read_state(updated), "complete": False})
    assert start("--clean") == 1
    assert "interrupted" in capsys.readouterr().err
    assert updated.last.exists()


# --- WEBUI_NEVER_INSTALL ---


@pytest.fixture
def fixed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("WEBUI_NEVER_INSTALL", "yes")
    monkeypatch.chdir(layout.root)  # one_click changes to it
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr(one_click, "launch", lambda *_: 0)
    monkeypatch.setattr(one_click, "install", lambda *_: pytest.fail("it was installed"))
    return layout


@pytest.mark.parametrize("flag", ["--update", "--repair", "--go-back", "--clean", "--install-torch"])
def test_where_nothing_may_be_installed_no_flag_does(
    fixed: Layout, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    finished(fixed)
    assert start(flag) == 1
    assert "WEBUI_NEVER_INSTALL is set" in capsys.readouterr().err
    assert calls(fixed) == []


@pytest.mark.parametrize("changes", [{"fingerprint": "old"}, {"root": "/elsewhere"}, {"processor": "another"}])
def test_what_is_there_is_started_as_it_is(
    fixed: Layout, capsys: pytest.CaptureFixture[str], changes: dict[str, str]
) -> None:
    before = finished(fixed, **changes)
    assert start() == 0
    assert "used unchanged because WEBUI_NEVER_INSTALL is set" in capsys.readouterr().out
    assert read_state(fixed) == before


def test_what_cannot_run_or_is_not_there_is_a_sentence(fixed: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert start() == 1
    assert "Nothing is installed, but WEBUI_NEVER_INSTALL is set" in capsys.readouterr().err
    make_environment(fixed)
    write_state(fixed, {"complete": False})
    assert start() == 1
    assert "missing or incomplete" in capsys.readouterr().err
    write_state(fixed, {"complete": True, "root": "/elsewhere"})
    (fixed.python.parent / "no-import").touch()
    assert start() == 1
    assert "cannot run this version of the program (ImportError" in capsys.readouterr().err


def test_nothing_is_wrong_where_all_is_right(fixed: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    finished(fixed)
    assert start() == 0
    assert capsys.readouterr().out == ""


def test_a_commit_is_known_only_under_git(tmp_path: Path) -> None:
    assert project.current_commit(tmp_path) == ""
    with pytest.raises(InstallStopped):
        project.update_project(tmp_path)
    assert project.script_name("update", tmp_path).endswith(" --repair")
