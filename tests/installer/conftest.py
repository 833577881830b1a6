"""A project folder for the installer, isolated from this machine."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from installer.hardware import compiler
from installer.layout import Layout
from tests.installer.starts import Machine, copied


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A project folder with requirements, independent of this machine's environment."""
    for name in (
        "GPU_CHOICE",
        "USE_CUDA118",
        "LAUNCH_AFTER_INSTALL",
        "WEBUI_NEVER_INSTALL",
        "UV_CACHE_DIR",
        "CMAKE_ARGS",
        "CFLAGS",
        "CXXFLAGS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(compiler, "has_compilers", lambda layout: True)
    monkeypatch.setattr(compiler, "accepted_options", lambda layout, options: list(options))
    layout = Layout(tmp_path / "project")
    layout.root.mkdir()
    layout.requirements.write_text("# comment\ngradio==1.0\nllama-cpp-python==9\n    # via nobody\n")
    return layout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    machine = Machine(tmp_path_factory.mktemp("installed"))
    assert machine.start().runs
    return machine.root.parent


@pytest.fixture
def finished(installed: Path, tmp_path: Path) -> Machine:
    """A finished installation in its own folder."""
    return copied(installed, tmp_path / "copy")
