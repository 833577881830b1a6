"""torch on request: the build for the GPU, from PyTorch's index or, if that cannot be reached, the usual one."""

from __future__ import annotations

import pytest

from installer.environment.packages import Packages
from installer.errors import InstallStopped
from installer.hardware import machine
from installer.hardware.machine import Machine
from installer.hardware.nvidia import NvidiaGpu
from installer.layout import Layout
from installer.runner import Runner
from installer.torch import torch_packages
from installer.torch.torch_builds import newest_nvidia_stack, torch_build, torch_warning
from tests.installer.stage import calls, make_environment


def test_the_build_is_that_of_the_card() -> None:
    assert torch_build("A", False).requirement == "torch==2.5.1"  # the last one for CUDA 12.1
    assert torch_build("A", False).wheels == "cu121"
    assert torch_build("A", True).wheels == "cu118"
    assert torch_build("N", False).anywhere
    assert not torch_build("C", False).wheels
    assert not any(torch_build(gpu, False).anywhere for gpu in "ABD"), "another build would not see the card"


@pytest.mark.parametrize("reached", [True, False])
def test_from_its_own_index_or_the_usual_one(layout: Layout, reached: bool) -> None:
    make_environment(layout, "no-import", *([] if reached else ["no-torch-index"]))
    with pytest.raises(InstallStopped, match="does not work here"):
        torch_packages.install_torch_packages(Packages(Runner(layout)), torch_build("N", False))
    installs = [call for call in calls(layout) if "torch==" in call]
    assert ["--index-url" in each for each in installs] == ([True] if reached else [True, False])
    (layout.python.parent / "no-import").unlink()
    torch_packages.install_torch_packages(Packages(Runner(layout)), torch_build("N", False))
    assert any("requirements-torch.txt" in call for call in calls(layout))


def test_the_same_version_for_another_card_is_another_torch(layout: Layout) -> None:
    make_environment(layout)
    torch_packages.install_torch_packages(Packages(Runner(layout)), torch_build("A", True))
    asked = next(call for call in calls(layout) if "torch.__version__" in call)
    assert "torch.__version__ == '2.5.1+cu118'" in asked
    (layout.python.parent / "no-import").touch()
    with pytest.raises(InstallStopped, match="does not work here"):
        torch_packages.install_torch_packages(Packages(Runner(layout)), torch_build("A", True))
    assert any("torch==2.5.1+cu118 --index-url" in call for call in calls(layout))


def test_a_card_without_its_index_is_said(layout: Layout) -> None:
    make_environment(layout, "no-import", "no-torch-index")
    with pytest.raises(InstallStopped, match=r"CUDA 12\.1 could not be installed \(see its message above\)"):
        torch_packages.install_torch_packages(Packages(Runner(layout)), torch_build("A", False))


@pytest.mark.parametrize(
    ("card", "windows", "name", "why"),
    [
        (NvidiaGpu("RTX 5090", (12, 0), (572, 16)), True, "CUDA 12.8", ""),
        (NvidiaGpu("V100", (7, 0), (570, 26)), False, "CUDA 12.8", ""),
        (NvidiaGpu("RTX 3060", (8, 6), (570, 26)), True, "CUDA 12.1", "570.65"),
        (NvidiaGpu("GTX 1080", (6, 1), (580, 65)), False, "CUDA 12.1", "no code for the GTX 1080"),
        (NvidiaGpu("GTX 980", (5, 2), (580, 65)), False, "CUDA 12.1", "no code for the GTX 980"),
        (NvidiaGpu("K80", (3, 7), (470, 82)), False, "CUDA 11.8", "570.26"),
        (NvidiaGpu("RTX 3060", (8, 6), (450, 80)), False, "CUDA 11.8", "570.26"),
        (NvidiaGpu("GTX 780", (3, 5), (470, 82)), False, "CUDA 12.1", "570.26"),
    ],
)
def test_card_and_driver_decide_the_stack(card: NvidiaGpu, windows: bool, name: str, why: str) -> None:
    """PyTorch's packages for CUDA 12.8 begin at 7.0 since 2.8; NVIDIA's release notes list the drivers."""
    machine = Machine("Windows" if windows else "Linux", cards=(card,))
    stack, said = newest_nvidia_stack(machine)
    assert stack.name == name
    assert (why in said) if why else not said
    assert bool(torch_warning(stack, machine)) is (card.name == "GTX 780"), "gigabytes that the card could not use"


def test_of_a_torch_that_does_not_exist_nothing_is_fetched(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    make_environment(layout)
    monkeypatch.setattr(machine, "platform_name", lambda: "macOS x86_64")
    packages = Packages(Runner(layout))
    assert torch_packages.add_torch_packages(packages, torch_build("N", False), asked=False) is False
    with pytest.raises(InstallStopped, match=r"no torch 2\.13\.0 for the processor for macOS x86_64"):
        torch_packages.add_torch_packages(packages, torch_build("N", False), asked=True)
    assert not any("torch==" in call for call in calls(layout))
