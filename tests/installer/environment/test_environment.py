"""The environment: an installation without a network is undone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from installer.environment import environment
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.runner import Runner
from tests.installer.stage import make_environment


def test_no_network_takes_the_environment_back(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(layout)

    def output(self: Runner, *command: str | Path, **more: str) -> tuple[bool, str]:
        if "venv" in command:
            make_environment(layout)
        return "venv" in command, "ERROR: no route\n"

    monkeypatch.setattr(Runner, "output", output)
    environment.make_environment(runner)
    with pytest.raises(InstallStopped, match=r"is unreachable \(pip: ERROR: no route\).*Nothing was installed"):
        environment.add_uv(runner)
    assert not layout.env.exists()
    assert not layout.tmp.exists()


@pytest.mark.parametrize("name", ["plain", "it's 50% ü & (x) y", "long/" + "a" * 120])
def test_pip_is_unpacked_and_its_commands_run(layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A real environment; uv is replaced by an existing file."""
    assert environment.bundled_pip()
    there = Layout(layout.root / name)
    there.root.mkdir(parents=True)
    monkeypatch.setattr(environment, "UV", "pip")
    environment.make_environment(Runner(there))
    for command in ([there.python, "-m", "pip"], [there.python.with_name("pip")], [there.python.with_name("pip3")]):
        ran = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert str(there.site_packages) in ran.stdout
    assert "pip" in environment.installed_names(there)


def test_without_that_pip_venv_brings_its_own(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def output(self: Runner, *command: str | Path, **more: str) -> tuple[bool, str]:
        asked.append(command)
        return True, ""

    monkeypatch.setattr(environment, "bundled_pip", lambda: None)
    monkeypatch.setattr(Runner, "output", output)
    environment.make_environment(Runner(layout))
    assert [each for each in asked if "venv" in each and "--without-pip" not in each]
