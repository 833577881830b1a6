"""The environment: what was begun without a network is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer import environment
from installer.errors import Stop
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
    with pytest.raises(Stop, match=r"cannot be reached \(pip: ERROR: no route\).*Nothing was installed"):
        environment.make(runner)
    assert not layout.env.exists()
    assert not layout.tmp.exists()
