"""NVIDIA GPUs: the output of drivers of every age, places of nvidia-smi; invalid output is no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer.hardware import nvidia
from installer.hardware.nvidia import NvidiaGpu

NEW = """case "$1" in
--query-gpu=name,compute_cap,driver_version)
    echo 'NVIDIA GeForce RTX 3060, 8.6, 550.54.15'
    echo 'NVIDIA GeForce GTX 1080, 6.1, 550.54.15' ;;
*) exit 1 ;;
esac"""
OLD = """case "$1" in
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
--query-gpu=name,driver_version) echo 'GeForce GTX 960, 470.82.01' ;;
*) exit 1 ;;
esac"""
OLDEST = """case "$1" in
-L) echo 'GPU 0: Quadro P2000 (UUID: GPU-1)'; echo 'GPU 1: Odd, card (UUID: GPU-2)' ;;
*) exit 1 ;;
esac"""
FAILED = "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9"
FAILED_POLITELY = "echo 'NVIDIA-SMI has failed because it could not, or so, communicate'"


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the only nvidia-smi is, unless it is removed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia, "_tools", lambda environ, windows: filter(Path.exists, [tmp_path / "nvidia-smi"]))
    return tmp_path / "nvidia-smi"


@pytest.mark.parametrize(
    ("script", "cards"),
    [
        (
            NEW,
            (
                NvidiaGpu("NVIDIA GeForce RTX 3060", (8, 6), (550, 54, 15)),
                NvidiaGpu("NVIDIA GeForce GTX 1080", (6, 1), (550, 54, 15)),
            ),
        ),
        (OLD, (NvidiaGpu("GeForce GTX 960", (5, 2), (470, 82, 1)),)),
        (OLDEST, (NvidiaGpu("Quadro P2000", (6, 1)), NvidiaGpu("Odd, card"))),
        (
            "echo 'NVIDIA RTX A2000, Laptop, [N/A], 535.54'",
            (NvidiaGpu("NVIDIA RTX A2000, Laptop", (8, 6), (535, 54)),),
        ),
        ("echo 'Weird Card, 99.9, 1'", (NvidiaGpu("Weird Card", (99, 9), (1,)),)),
        (FAILED, ()),
        (FAILED_POLITELY, ()),
        ("printf '\\377\\376 ,\\n,,,\\n, 8.6, 550\\n'", ()),
        ("exit 0", ()),
        ("echo 'No devices were found'", ()),
    ],
)
def test_drivers_of_every_age_are_understood(smi: Path, script: str, cards: tuple[NvidiaGpu, ...]) -> None:
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o755)
    assert nvidia.list_nvidia_gpus() == cards
    smi.unlink()
    assert nvidia.list_nvidia_gpus() == ()


def test_it_is_looked_for_where_drivers_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    windows = {"SYSTEMROOT": str(tmp_path / "Windows"), "PROGRAMFILES": str(tmp_path / "Program Files")}
    assert list(nvidia._tools(windows, windows=True)) == []
    places = [
        tmp_path / "Windows" / "System32" / "nvidia-smi.exe",
        tmp_path / "Program Files" / "NVIDIA Corporation" / "NVSMI" / "nvidia-smi.exe",
    ]
    for place in places:
        place.parent.mkdir(parents=True)
        place.touch()
    assert list(nvidia._tools(windows, windows=True)) == list(map(str, places))


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA GeForce RTX 5090", (12, 0)),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", (12, 0)),
        ("NVIDIA B200", (10, 0)),
        ("NVIDIA H200", (9, 0)),
        ("NVIDIA GeForce RTX 4090", (8, 9)),
        ("NVIDIA RTX 6000 Ada Generation", (8, 9)),
        ("NVIDIA GeForce RTX 3060", (8, 6)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)),
        ("Quadro RTX 5000", (7, 5)),
        ("NVIDIA RTX 5000 Ada Generation", (8, 9)),
        ("NVIDIA GeForce GTX 1660 SUPER", (7, 5)),
        ("Tesla V100-PCIE-16GB", (7, 0)),
        ("GeForce GTX 1080 Ti", (6, 1)),
        ("GeForce GT 1030", (6, 1)),
        ("GeForce GTX 980", (5, 2)),
        ("GeForce GTX 750 Ti", (5, 0)),
        ("GeForce GTX 780", (3, 5)),
        ("GeForce GT 710", (3, 5)),
        ("GeForce GTX 680", (3, 0)),
        ("Quadro 600", ()),
    ],
)
def test_old_drivers_cards_are_known_by_name(name: str, capability: tuple[int, ...]) -> None:
    assert nvidia.capability_by_name(name) == capability
