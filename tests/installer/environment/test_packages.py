"""Installing packages with uv, and with pip after uv has failed."""

from __future__ import annotations

import pytest

from installer.environment.packages import Packages
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.runner import Runner
from tests.installer.stage import calls, make_environment


def test_where_uv_fails_pip_takes_over(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    make_environment(layout, "no-uv")
    packages = Packages(Runner(layout))
    packages.install("x", what="the packages")
    packages.install("y", what="the packages")
    assert [call.split()[1] for call in calls(layout)] == ["uv", "pip", "pip"]

    (layout.python.parent / "no-pip").touch()
    with pytest.raises(InstallStopped, match="pip could not install the packages"):
        packages.install("z", what="the packages")
