"""The early server: it tests the imports during the installation, and then serves without importing again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import one_click
from installer import early_server as module
from installer.early_server import VARIABLE, EarlyServer
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.runner import Runner
from modules.config import standby
from tests.installer.stage import make_environment
from tests.installer.starts import Machine

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="its Pythons are shell scripts")

#: The real server side with modules that import quickly, which prints a word when it serves.
SERVER = f"""import sys, time
sys.path.insert(0, {str(ROOT)!r})
from modules.config.standby import stand_by
print("unheard until then", flush=True)
stand_by()
try:
    print("it serves", sys.argv[1:], flush=True)
    time.sleep(float(sys.argv[1]))
except KeyboardInterrupt:
    sys.exit(7)
"""


def server(layout: Layout, *, page: str = "", text: str = SERVER) -> None:
    """An environment with the current Python, and a server.py."""
    layout.python.parent.mkdir(parents=True)
    layout.site_packages.mkdir(parents=True)
    layout.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    layout.python.chmod(0o755)
    (layout.root / "server.py").write_text(text)
    (layout.root / "page.py").write_text(page)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRAM", "json.tool, page")


def imported(layout: Layout) -> tuple[EarlyServer, tuple[bool, str]]:
    early = EarlyServer(layout, ["0"])
    early.begin()
    assert early.runs
    return early, early.imports(Runner(layout))


def test_both_sides_mean_the_same_variable() -> None:
    assert standby.VARIABLE == VARIABLE


def test_it_imports_waits_and_serves_in_one_process(layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    server(layout, page="print('many words of a library')")
    early, result = imported(layout)
    assert result == (True, "")
    assert early.fits()
    assert capfd.readouterr().out == "unheard until then\n"
    assert early.serve() == 0
    assert capfd.readouterr().out == "it serves ['0']\n"
    assert not (layout.files / "early").exists()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("print('first'); import os; os.kill(os.getpid(), 11)", "it was ended by SIGSEGV"),
        ("import sys; sys.exit('it wants another')", "SystemExit: it wants another"),
        ("import os; os._exit(3)", "no message"),
    ],
)
def test_what_cannot_be_imported_is_told_and_never_serves(
    layout: Layout, page: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server(layout, page=page)
    early, (runs, said) = imported(layout)
    assert not runs
    assert words in said
    assert said in layout.log.read_text() or said == "no message"
    assert not early.fits()
    early.end()
    assert "serves" not in capfd.readouterr().out


def test_without_a_server_py_nothing_begins(layout: Layout) -> None:
    make_environment(layout)
    with pytest.raises(InstallStopped, match=r"server\.py is missing"):
        EarlyServer(layout, []).begin()


def test_one_that_cannot_be_begun_is_none(layout: Layout) -> None:
    (layout.root / "server.py").touch()
    early = EarlyServer(layout, [])
    early.begin()  # there is no such Python
    assert not early.runs
    early.end()


def test_a_failure_beside_it_does_not_wait_for_its_imports(layout: Layout) -> None:
    server(layout, page="import time; time.sleep(600)")
    early = EarlyServer(layout, [])
    early.begin()
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(early.imports, Runner(layout))
        with pytest.raises(KeyboardInterrupt), early.needed():
            raise KeyboardInterrupt
    assert asked.result()[0] is False
    assert not early.runs


def test_where_nothing_can_be_written_it_says_nothing_by_itself(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    server(layout, page="import shutil, sys")
    early = EarlyServer(layout, ["0"])
    text = SERVER.replace("stand_by()\ntry", "import os, json, shutil; "
        "shutil.rmtree(json.loads(os.environ['WEBUI_STANDS_BY'])['folder'])\nstand_by()\ntry")  # fmt: skip
    (layout.root / "server.py").write_text(text)
    early.begin()
    assert not early.imports(Runner(layout))[0]
    early.end()
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "serves" not in out


@pytest.mark.parametrize("change", ["cuda", "pointer"])
def test_what_only_a_new_start_takes_notice_of_ends_it(layout: Layout, change: str) -> None:
    server(layout)
    early, _ = imported(layout)
    assert early.fits()
    if change == "cuda":
        (layout.site_packages / "nvidia" / "cublas" / "lib").mkdir(parents=True)
    else:
        (layout.site_packages / "llama_cpp_libraries.pth").write_text('x(y, "llama", "b7-the-processor")')
    assert not early.fits()
    early.end()
    assert not early.runs


_PARENT = """import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from installer import early_server as module
from installer.layout import Layout
from installer.runner import Runner
module.PROGRAM = "json.tool, page"
layout = Layout(Path(sys.argv[2]))
early = module.EarlyServer(layout, ["600"])
early.begin()
assert early.imports(Runner(layout))[0]
print("child", early._process.pid, flush=True)
if sys.argv[3] == "serve":
    sys.exit(early.serve())
sys.stdin.read()
"""


def gone(pid: int) -> bool:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("how", "sent", "code"),
    [
        ("serve", signal.SIGINT, 7),  # its own exit code
        ("serve", signal.SIGTERM, -signal.SIGTERM),  # by the signal that ended it
        ("serve", signal.SIGHUP, -signal.SIGHUP),
        ("serve", signal.SIGKILL, -signal.SIGKILL),  # which cannot be forwarded: it sees the end of its input
        ("wait", signal.SIGKILL, -signal.SIGKILL),
        ("wait", signal.SIGINT, -signal.SIGINT),
    ],
)
def test_signals_to_the_installer_reach_the_server(layout: Layout, how: str, sent: int, code: int) -> None:
    server(layout)
    command = [sys.executable, "-c", _PARENT, str(ROOT), str(layout.root), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        lines = iter(parent.stdout.readline, b"")
        pid = int(next(line for line in lines if line.startswith(b"child")).split()[1])
        if how == "serve":
            next(line for line in lines if line.startswith(b"it serves"))
        parent.send_signal(sent)
        assert parent.wait(60) == code
    assert gone(pid)


#: A server that restarts itself once, and prints that.
_RESTARTS = SERVER.replace(
    "try:",
    "import os\nif not sys.argv[2:]:\n    os.execv(sys.executable, [sys.executable, __file__, '600', 'anew'])\ntry:",
    1,
)


def lines_of(parent: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert parent.stdout is not None
    return iter(parent.stdout.readline, b"")


@contextlib.contextmanager
def begun(layout: Layout) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A started one and its server's process id; both are ended at the end."""
    command = [sys.executable, "-c", _PARENT, str(ROOT), str(layout.root), "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        pid = 0
        try:
            pid = int(next(line for line in lines_of(parent) if line.startswith(b"child")).split()[1])
            yield parent, pid
        finally:
            parent.kill()
            with contextlib.suppress(OSError):
                os.kill(pid or 2**30, signal.SIGKILL)


def test_a_server_that_started_anew_sees_the_installers_end_as_well(layout: Layout) -> None:
    server(layout, text=_RESTARTS)
    with begun(layout) as (parent, pid):
        next(line for line in lines_of(parent) if b"anew" in line)
        parent.kill()
        assert gone(pid)


def test_another_server_that_it_starts_does_not_mind_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps({"serves": os.getpid() + 1}))
    monkeypatch.setattr(standby, "_mind", lambda: pytest.fail("it would end with an input that is not its own"))
    standby.stand_by()
    assert VARIABLE not in os.environ


def awaited(pid: int, states: str) -> bool:
    for _ in range(500):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in states:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process tells its state there")
def test_ctrl_z_stops_both_and_both_go_on_or_end(layout: Layout) -> None:
    server(layout)
    with begun(layout) as (parent, pid):
        next(line for line in lines_of(parent) if line.startswith(b"it serves"))
        parent.send_signal(signal.SIGTSTP)
        assert awaited(pid, "T")
        assert awaited(parent.pid, "T")
        parent.send_signal(signal.SIGCONT)
        assert awaited(pid, "SR")
        parent.send_signal(signal.SIGTSTP)
        assert awaited(pid, "T")
        assert awaited(parent.pid, "T")
        parent.kill()
        assert gone(pid)


# --- as a part of the installation ---


def test_whatever_fails_after_its_trial_ends_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous environment is started then, not the server of the failed one."""
    server(layout)
    early = EarlyServer(layout, ["0"])

    def renew(*_: object, **more: object) -> None:
        early.begin()
        raise InstallStopped("The disk is full.")

    monkeypatch.setattr(one_click, "renew_environment", renew)
    monkeypatch.setattr(one_click, "next_step", lambda _: ("The first start.", True))
    monkeypatch.setattr(one_click.held_environment, "falls_back", lambda *_: True)
    monkeypatch.setenv("GPU_CHOICE", "N")
    one_click.prepare(layout, [], early=early)
    assert not early.runs
    assert not early.fits()


def servers(machine: Machine) -> list[str]:
    return [line for line in (machine.root.parent / "calls").read_text().splitlines() if "server.py" in line]


def test_a_first_start_imports_once(machine: Machine) -> None:
    assert machine.start("--listen").runs
    assert servers(machine) == [f"{machine.root}/server.py --listen"]
    assert "-c import modules" not in (machine.root.parent / "calls").read_text()
    assert not (machine.root / "installer_files" / "early").exists()
    assert machine.start("--listen").runs
    assert not (machine.root.parent / "stood-by").read_text().splitlines()[1:], "a later start waits for nothing"


@pytest.mark.parametrize("more", [{"LAUNCH_AFTER_INSTALL": "no"}, {}])
def test_without_a_start_that_follows_no_server_begins(machine: Machine, more: dict[str, str]) -> None:
    arguments = [] if more else ["--repair"]
    assert machine.start(*arguments, **more).code == 0
    assert not servers(machine)
    assert "-c import modules" in (machine.root.parent / "calls").read_text()


def test_a_failure_after_its_trial_starts_the_environment_before_it_and_not_this_one(finished: Machine) -> None:
    finished.require("gradio==2.0", "llama-cpp-python==10")
    finished.fault("llama:fail")
    before = finished.made_from
    (finished.root.parent / "calls").unlink(missing_ok=True)
    ended = finished.start()
    assert ended.runs, ended.all
    assert finished.made_from == before
    assert len(servers(finished)) == 2, "one that stood by in vain, and one of the environment before"


def test_one_that_dies_while_it_waits_is_started_anew(machine: Machine) -> None:
    machine.fault("waiting:once")
    assert machine.start().runs
    assert len(servers(machine)) == 2
