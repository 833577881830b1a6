"""torch on request: the build for the card, from PyTorch's index or, where that cannot be reached, the usual one."""

from __future__ import annotations

import pytest

from installer import torch_packages
from installer.errors import Stop
from installer.layout import Layout
from installer.packages import Packages
from installer.runner import Runner
from installer.torch_builds import torch_build
from tests.installer.stage import calls, make_environment


def test_the_build_is_that_of_the_card() -> None:
    assert torch_build("A", False).requirement == "torch==2.5.1"  # the last one for CUDA 12.1
    assert torch_build("A", False).wheels == "cu121"
    assert torch_build("A", True).wheels == "cu118"
    assert torch_build("N", False).anywhere
    assert not torch_build("C", False).wheels
    assert not any(torch_build(gpu, False).anywhere for gpu in "ABD"), "another build would not see the card"


@pytest.mark.parametrize(("reached", "index"), [(True, "--index-url"), (False, "")])
def test_from_its_own_index_or_the_usual_one(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, reached: bool, index: str
) -> None:
    monkeypatch.setattr(torch_packages, "reachable", lambda _: reached)
    make_environment(layout, "no-import")
    with pytest.raises(Stop, match="does not run here"):
        torch_packages.install(Packages(Runner(layout)), torch_build("N", False))
    (installs,) = [call for call in calls(layout) if "torch==" in call]
    assert ("--index-url" in installs) is bool(index)
    (layout.python.parent / "no-import").unlink()
    torch_packages.install(Packages(Runner(layout)), torch_build("N", False))
    assert any("requirements-torch.txt" in call for call in calls(layout))


def test_a_card_without_its_index_is_said(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_packages, "reachable", lambda _: False)
    make_environment(layout, "no-import")
    with pytest.raises(Stop, match=r"CUDA 12\.1 could not be installed"):
        torch_packages.install(Packages(Runner(layout)), torch_build("A", False))
