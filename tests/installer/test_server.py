"""server.py is started with the given arguments."""

from __future__ import annotations

import os

import pytest

from installer.errors import InstallStopped
from installer.layout import Layout
from installer.server import launch
from tests.installer.stage import finished


def test_server_py_gets_the_arguments_unchanged(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(layout)
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda path, command, environ: started.append(command))
    monkeypatch.setattr("subprocess.call", lambda command, env: 0)
    with pytest.raises(InstallStopped, match=r"server\.py is missing"):
        launch(layout, [])
    (layout.root / "server.py").touch()
    launch(layout, ["--listen-port", "7999", "two words", ""])
    assert started == [[str(layout.python), str(layout.root / "server.py"), "--listen-port", "7999", "two words", ""]]
