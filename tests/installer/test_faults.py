"""Faults injected into an installation and into an update: the result is a running page, or one correct sentence.

Never a traceback, and never a loop: with the fault still there an update is not tried again by itself, with the fault
gone one start is enough, and the start after that changes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installer.starts import HERE, PAGE, Machine

pytestmark = pytest.mark.skipif(os.name == "nt", reason="its Pythons are shell scripts")


# --- the first installation ---

#: (the fault, the disk's fault, what is printed; "" if the page runs anyway)
INSTALLATION = [
    (["venv:fail"], "", r"venv could not create .*venv went wrong"),
    (["venv:full"], "", r"No space left on device"),
    (["venv:kill"], "", "killed"),
    (["uv-itself:network"], "", r"index is unreachable .*Nothing was installed"),
    (["uv-itself:kill"], "", "killed"),
    (["settings:kill"], "", "killed"),
    (["settings:fail"], "", ""),
    (["uv:fail"], "", ""),
    (["uv:memory"], "", ""),
    (["packages:network"], "", r"pip could not install the packages"),
    (["packages:hash"], "", r"pip could not install the packages"),
    (["packages:full"], "", r"pip could not install the packages"),
    (["packages:memory"], "", r"pip could not install the packages"),
    (["packages:kill"], "", "killed"),
    (["no-compiler:"], "", r"requires a C and C\+\+ compiler.*build-essential.*Nothing was installed"),
    (["compile:fail"], "", r"could not be compiled: ERROR: compile went wrong.*install\.log"),
    (["compile:memory"], "", r"ended by SIGKILL, usually because the system ran out of memory"),
    (["compile:kill"], "", "killed"),
    (["llama:fail"], "", r"llama\.cpp could not be installed"),
    (["llama:kill"], "", "killed"),
    (["trial:once"], "", ""),
    (["trial:crash"], "", r"it was ended by SIGSEGV.*install\.log"),
    (["trial:kill"], "", "killed"),
    (["imports:fail"], "", r"does not run \(ERROR: imports went wrong\).*install\.log"),
    (["imports:kill"], "", "killed"),
    ([], "read-only", r"not writable"),
    ([], "full:1", r"not writable|The disk is full"),
    ([], "full:4", r"The disk is full"),
    ([], "full:8", r"The disk is full"),
    ([], "full:10", r"The disk is full"),
    (["ready-made:", "old-driver:", "gpu:A"], "", ""),
    (["torch:network", "gpu:A"], "", ""),
]


@pytest.mark.parametrize(("faults", "disk", "words"), INSTALLATION)
def test_a_fault_in_the_first_installation(machine: Machine, faults: list[str], disk: str, words: str) -> None:
    more = {"GPU_CHOICE": "A"} if "gpu:A" in faults else {}
    machine.fault(*faults)
    for _ in range(2):  # with the fault still present, the result is the same
        ended = machine.start(FAULT=disk, **more)
        if words == "killed":
            assert ended.killed
        elif words:
            assert ended.code == 1, ended.all
            assert re.search(words, ended.err, re.DOTALL), ended.all
        else:
            assert ended.runs, ended.all
    machine.fault()
    assert machine.start(**more).runs
    again = machine.start(**more)
    assert again.runs
    assert not again.installs
    assert machine.state["complete"] is True


# --- an update ---

#: (the fault, the disk's fault, what is printed; "" if the newer environment is created anyway)
UPDATE = [
    (["venv:fail"], "", r"venv could not create"),
    (["venv:kill"], "", "killed"),
    (["uv-itself:network"], "", r"index is unreachable"),
    (["uv-itself:kill"], "", "killed"),
    (["settings:kill"], "", "killed"),
    (["uv:fail"], "", ""),
    (["packages:network"], "", r"pip could not install the packages"),
    (["packages:hash"], "", r"pip could not install the packages"),
    (["packages:full"], "", r"pip could not install the packages"),
    (["packages:memory"], "", r"pip could not install the packages"),
    (["packages:kill"], "", "killed"),
    (["no-compiler:"], "", r"requires a C and C\+\+ compiler"),
    (["compile:fail"], "", r"could not be compiled"),
    (["compile:memory"], "", r"ended by SIGKILL"),
    (["compile:kill"], "", "killed"),
    (["trial:once"], "", ""),
    (["trial:kill"], "", "killed"),
    (["imports:fail"], "", r"does not run \(ERROR: imports"),
    (["imports:kill"], "", "killed"),
    ([], "read-only", r"not writable"),
    ([], "full:1", r"not writable|The disk is full"),
    ([], "full:9", r"The disk is full"),
    ([], "full:14", r"disk is full|could not be created|cannot be written"),
]


@pytest.mark.parametrize(("faults", "disk", "words"), UPDATE)
def test_a_fault_in_an_update(finished: Machine, faults: list[str], disk: str, words: str) -> None:
    """The previous environment runs, at once or, after a kill, at the next start; it is only tried again on request."""
    finished.require("gradio==2.0", "llama-cpp-python==10")
    finished.fault(*faults)
    ended = finished.start(FAULT=disk)
    if words == "killed":
        assert ended.killed
    else:
        assert ended.runs, ended.all
        assert re.search(words, ended.out, re.DOTALL)
    wanted = "gradio==2.0" if not words else "gradio==1.0"
    still = finished.start(FAULT=disk)
    assert still.runs, still.all
    assert finished.made_from.strip() == wanted
    if disk:  # it is refused before anything is begun, because nothing can be stored there
        assert "[3/5]" not in still.out or disk.startswith("full")
    else:
        assert not still.installs, still.all
    finished.fault()
    if words:
        asked = finished.start("--repair")
        assert asked.code == 0, asked.all
        assert asked.installs
    gone = finished.start()
    assert gone.runs
    assert not gone.installs
    assert finished.made_from.strip() == "gradio==2.0"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no-compiler:", r"no C and C\+\+ compiler"),
        ("compile:fail", "could not be compiled"),
        ("compile:kill", ""),
        ("llama:fail", "could not be installed"),
        ("llama:kill", ""),
        ("imports:fail", "does not run"),
    ],
)
def test_a_fault_while_llama_cpp_alone_is_exchanged(finished: Machine, fault: str, words: str) -> None:
    """Nothing else is changed, and the previous llama.cpp is restored."""
    finished.require("gradio==1.0", "llama-cpp-python==10")
    mark = finished.root / "installer_files" / "env" / "mark"
    mark.touch()
    finished.fault(fault)
    ended = finished.start()
    assert ended.runs if words else ended.killed
    assert re.search(words, ended.out)
    still = finished.start()
    assert still.runs
    assert not still.installs
    assert list((finished.root / "installer_files" / "env").glob("lib/*/site-packages/llama_cpp"))
    finished.fault()
    finished.require("gradio==1.0", "llama-cpp-python==11")
    newer = finished.start()
    assert newer.runs
    assert "Packages are up to date" in newer.out
    assert mark.exists()
    assert not finished.start().installs


def test_an_update_that_fails_when_asked_for_fails_with_its_sentence(finished: Machine) -> None:
    finished.require("gradio==2.0", "llama-cpp-python==9")
    finished.fault("packages:network")
    ended = finished.start("--repair")
    assert ended.code == 1
    assert "could not install" in ended.err
    assert finished.start().runs


def test_going_back_is_possible_after_an_update_that_failed(finished: Machine) -> None:
    finished.require("gradio==2.0", "llama-cpp-python==9")
    assert finished.start().runs
    finished.require("gradio==3.0", "llama-cpp-python==9")
    finished.fault("packages:network")
    assert finished.start().runs
    assert finished.made_from.strip() == "gradio==2.0"
    assert finished.start("--go-back").code == 0
    assert finished.made_from.strip() == "gradio==1.0"


def test_something_newer_still_is_tried_by_itself(finished: Machine) -> None:
    finished.require("gradio==2.0", "llama-cpp-python==9")
    finished.fault("packages:network")
    assert finished.start().runs
    finished.fault()
    assert not finished.start().installs
    finished.require("gradio==3.0", "llama-cpp-python==9")
    ended = finished.start()
    assert ended.installs
    assert ended.runs
    assert finished.made_from.strip() == "gradio==3.0"


def test_an_old_environment_that_cannot_run_the_new_program_is_not_started(finished: Machine) -> None:
    finished.require("gradio==2.0", "llama-cpp-python==9")
    finished.fault("packages:network", "look:fail")
    for _ in range(2):
        ended = finished.start()
        assert ended.code == 1
        assert "could not install" in ended.err
        assert "cannot run this version of the program (ERROR: look went wrong)" in ended.err
    finished.fault()
    assert finished.start().runs


@pytest.mark.parametrize("state", ["", "{", "[]", "\0\0\0", '{"complete": true}', "gone"])
@pytest.mark.parametrize("network", [True, False])
def test_a_state_that_is_damaged(finished: Machine, state: str, network: bool) -> None:
    path = finished.root / "installer_files" / "state.json"
    if state == "gone":
        path.unlink()
    else:
        path.write_text(state)
    finished.fault(*([] if network else ["uv-itself:network"]))
    ended = finished.start()
    assert ended.runs, ended.all
    finished.fault()
    last = finished.start()
    assert last.runs
    assert not last.installs


def test_a_lock_that_is_held_is_waited_for(finished: Machine) -> None:
    finished.require("gradio==2.0", "llama-cpp-python==9")
    code = (
        "import sys; from pathlib import Path; from installer.layout import Layout; from installer.lock import "
        "install_lock"
        "\nwith install_lock(Layout(Path(sys.argv[1]))): print('locked', flush=True); sys.stdin.readline()"
    )
    holder = [sys.executable, "-c", code, str(finished.root)]
    command = [sys.executable, str(HERE / "faulty.py"), str(finished.root)]
    with subprocess.Popen(holder, cwd=HERE.parents[1], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        with subprocess.Popen(
            command, env=finished.environ(), stdout=-1, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
        ) as waits:
            assert waits.stdout
            assert any("waiting for it" in line for line in iter(waits.stdout.readline, ""))
            other.kill()
            assert PAGE in waits.stdout.read()
    assert not finished.start().installs


# --- each change of the disk can be the last ---


def _update(machine: Machine) -> list[str]:
    machine.require("gradio==1.5", "llama-cpp-python==9")
    assert machine.start().runs
    machine.require("gradio==2.0", "llama-cpp-python==9")
    return []


def _llama(machine: Machine) -> list[str]:
    machine.require("gradio==1.0", "llama-cpp-python==10")
    return []


def _go_back(machine: Machine) -> list[str]:
    machine.require("gradio==2.0", "llama-cpp-python==9")
    assert machine.start().runs
    return ["--go-back"]


def _content(folder: Path) -> dict[str, bytes | str]:
    """Everything in a folder except what is never read again."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
    return {name: what for name, what in found.items() if not name.endswith(("install.log", "lock"))}


@pytest.mark.parametrize("prepare", [_update, _llama, _go_back])
def test_the_power_may_fail_at_each_change_of_the_disk(finished: Machine, prepare: object) -> None:
    """The next start runs the page, also without a network; the one after it changes nothing; going back still
    works.
    """
    assert callable(prepare)
    arguments = prepare(finished)
    assert finished.start(*arguments, FAULT="moments").code == 0
    seen: list[dict[str, bytes | str]] = []
    for moment in sorted((finished.root.parent / "moments").iterdir()):
        if (content := _content(moment)) in seen:
            continue
        seen.append(content)
        shutil.rmtree(finished.root)
        shutil.copytree(moment, finished.root, symlinks=True)
        offline = len(seen) % 4 > 0
        finished.fault(*(["uv-itself:network", "compile:network", "packages:network"] if offline else []))
        after = finished.start()
        assert after.runs, (moment, after.all)
        last = finished.start()
        assert last.runs, (moment, last.all)
        assert not last.installs, (moment, last.all)
        if prepare is _update:
            back = finished.start("--go-back")
            assert back.code == 0, (moment, back.all)
            assert finished.made_from.strip() in ("gradio==1.0", "gradio==1.5")
    assert len(seen) > 5, "no change of the disk was seen"
