"""The composition root: how a start ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import server
from errors import UnknownFlag
from modules.config.flags import LaunchOptions
from modules.config.paths import Paths


class FakeApp:
    """An App without services, but with a catalog that is asked for its names."""

    closed = 0

    def __init__(self, root: Path) -> None:
        self.launch = LaunchOptions()
        self.notes = ("--triton is accepted but has no effect.",)
        self.paths = Paths.under(root)
        self.catalog = type("Shelf", (), {"names": lambda self: ["a.gguf", "b.gguf"]})()
        self.models = None

    def use_named_loras(self) -> None:
        pass

    def keep(self) -> None:
        pass

    def close(self) -> bool:
        FakeApp.closed += 1
        return True


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    old = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, old)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, Any]:
    """Stand-ins for modules.app and modules.ui."""
    app, page = ModuleType("modules.app"), ModuleType("modules.ui")
    app.App = type("App", (), {"build": staticmethod(lambda root, argv: FakeApp(tmp_path))})  # type: ignore[attr-defined]
    page.launch = lambda app: "http://127.0.0.1:7860"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.app", app)
    monkeypatch.setitem(sys.modules, "modules.ui", page)
    monkeypatch.setattr(FakeApp, "closed", 0)
    return app, page


def test_a_start_that_cannot_be_is_one_sentence_and_exit_code_2(
    program: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(root: Path, argv: list[str]) -> None:
        raise UnknownFlag("--listn", "on the command line", ["--listen"])

    program[0].App.build = staticmethod(refuse)
    assert server.main(["--listn"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "Unknown flag --listn on the command line. Did you mean --listen? For all flags, run: python server.py --help"
    ]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly_and_closes_the_model(
    program: tuple[Any, Any], capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    class Stopped:
        def wait(self, _seconds: float) -> bool:
            signal.raise_signal(number)
            pytest.fail("the signal did not end it")

    def launch(app: Any) -> str:
        app.session = type("Session", (), {"asked": Stopped()})()
        return "http://127.0.0.1:7860"

    program[1].launch = launch
    # a shell that starts the tests in the background lets them ignore Ctrl+C
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert server.main([]) == 0
    finally:
        signal.signal(signal.SIGINT, inherited)
    out = capsys.readouterr().out
    assert "--triton is accepted" in out
    assert "http://127.0.0.1:7860" in out
    assert FakeApp.closed == 1


def test_the_model_is_closed_when_the_page_cannot_be_made(program: tuple[Any, Any]) -> None:
    def fail(app: object) -> None:
        raise RuntimeError

    program[1].launch = fail
    with pytest.raises(RuntimeError):
        server.main([])
    assert FakeApp.closed == 1


def test_nothing_is_sent_anywhere(program: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in server.QUIET:
        monkeypatch.delenv(name, raising=False)
    program[0].App.build = staticmethod(lambda root, argv: (_ for _ in ()).throw(KeyboardInterrupt))
    assert server.main([]) == 0
    assert {name: os.environ[name] for name in server.QUIET} == dict(server.QUIET)


def test_a_restart_becomes_the_next_run(program: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []

    def launch(app: Any) -> str:
        asked = threading.Event()
        asked.set()
        app.session = type("Session", (), {"asked": asked, "argv": ("--api", "--verbose=false")})()
        return "http://127.0.0.1:7860"

    program[1].launch = launch
    monkeypatch.delenv(server.RESTARTED, raising=False)
    if os.name == "nt":
        monkeypatch.setattr(server.subprocess, "call", lambda command: became.append(command) or 0)
    else:
        monkeypatch.setattr(server.os, "execv", lambda python, command: became.append(command))
    server.main(["--listen"])
    assert became == [[sys.executable, str(server.ROOT / "server.py"), "--api", "--verbose=false"]]
    assert FakeApp.closed == 1
    assert os.environ.pop(server.RESTARTED) == "1"
