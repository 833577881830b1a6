"""GPUs: valid answers, detection with its reason, and reading sysfs and the registry."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.hardware import gpu


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("A", "A"), (" n\n", "N"), ("d", "D"), ("", ""), ("AB", ""), ("ABCDN", ""), ("X", ""), ("nvidia", ""), ("É", "")],
)
def test_only_one_of_the_letters_is_an_answer(answer: str, letter: str) -> None:
    assert gpu.parse_gpu(answer) == letter


@pytest.mark.parametrize(
    ("system", "machine", "nvidia", "cards", "letter", "reason"),
    [
        ("Darwin", "arm64", "", [], "C", "Apple"),
        ("Darwin", "x86_64", "", [], "N", "Intel"),
        ("Linux", "x86_64", "NVIDIA GeForce RTX 3060", [("0x10de", "0x2504")], "A", "RTX 3060"),
        ("Linux", "x86_64", "", [("0x8086", "0x9bc5"), ("0x10de", "0x2504")], "N", "driver"),
        ("Linux", "x86_64", "", [("0x1002", "0x73bf")], "B", "AMD"),
        ("Linux", "x86_64", "", [("0x8086", "0x56A0")], "D", "Arc"),
        ("Linux", "x86_64", "", [("0x8086", "0x9bc5")], "N", "no supported GPU"),
        ("Linux", "aarch64", "", [], "N", "no supported GPU"),
        ("Windows", "AMD64", "", [("0x1002", "0x73bf")], "B", "Windows lists an AMD"),
        ("Windows", "AMD64", "", [("0x8086", "0x56a0")], "D", "Windows lists an Intel Arc"),
        ("Windows", "AMD64", "", [("0x10de", "0x2504")], "N", "driver does not respond"),
        ("Windows", "AMD64", "NVIDIA GeForce RTX 3060", [("0x8086", "0x9bc5")], "A", "RTX 3060"),
    ],
)
def test_detection_gives_a_letter_and_the_reason(
    system: str, machine: str, nvidia: str, cards: list[tuple[str, str]], letter: str, reason: str
) -> None:
    found, why = gpu.detect_gpu(system, machine, nvidia, cards)
    assert found == letter
    assert reason in why


def test_cards_are_read_from_sysfs(tmp_path: Path) -> None:
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "device").write_text("0x73bf\n")
    (tmp_path / "card0-HDMI-A-1").mkdir()
    assert gpu.read_drm_ids(tmp_path) == [("0x1002", "0x73bf")]
    assert gpu.read_drm_ids(tmp_path / "absent") == []


def test_a_driver_that_came_or_was_updated_is_another_one(tmp_path: Path) -> None:
    assert gpu.list_vulkan_drivers(tmp_path) == []
    loader = tmp_path / "usr" / "lib" / "x86_64-linux-gnu" / "libvulkan.so.1"
    driver = tmp_path / "usr" / "share" / "vulkan" / "icd.d" / "radeon_icd.json"
    for path in (loader, driver):
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (7, 7))
    found = gpu.list_vulkan_drivers(tmp_path)
    assert sorted(found) == ["libvulkan.so.1 7", "radeon_icd.json 7"]
    os.utime(driver, (8, 8))
    assert gpu.list_vulkan_drivers(tmp_path) != found
    driver.with_name("broken.json").symlink_to("nowhere")
    assert len(gpu.list_vulkan_drivers(tmp_path)) == 2


class Registry(types.ModuleType):
    """Windows' registry with these adapters; None is a key that cannot be read."""

    HKEY_LOCAL_MACHINE = "HKLM"

    def __init__(self, adapters: dict[str, str | None] | None) -> None:
        super().__init__("winreg")
        self.adapters = adapters

    @contextlib.contextmanager
    def OpenKey(self, above: object, name: str) -> Iterator[object]:
        if above == "HKLM":
            assert name.endswith("{4d36e968-e325-11ce-bfc1-08002be10318}")
            if self.adapters is None:
                raise FileNotFoundError(name)
            yield "class"
        elif (self.adapters or {}).get(name) is None:
            raise PermissionError(name)
        else:
            yield name

    def QueryInfoKey(self, key: object) -> tuple[int, int, int]:
        return len(self.adapters or {}), 0, 0

    def EnumKey(self, key: object, at: int) -> str:
        return list(self.adapters or {})[at]

    def QueryValueEx(self, key: str, name: str) -> tuple[str | None, int]:
        assert name in ("MatchingDeviceId", "DriverVersion")
        return f"{'31.0' if name == 'DriverVersion' else ''}{(self.adapters or {})[key]}", 1


@pytest.mark.parametrize(
    ("adapters", "cards"),
    [
        ({"0000": "PCI\\VEN_1002&DEV_73BF&REV_C1"}, [("0x1002", "0x73bf")]),
        (
            {"0000": "pci\\ven_8086&dev_9bc5", "0001": "PCI\\VEN_10DE&DEV_2504&SUBSYS_1", "Properties": None},
            [("0x8086", "0x9bc5"), ("0x10de", "0x2504")],
        ),
        ({"0000": "ROOT\\BasicDisplay", "0001": "{5d8a}\\remote"}, []),
        ({}, []),
        (None, []),
    ],
)
def test_cards_are_read_from_windows_registry(
    monkeypatch: pytest.MonkeyPatch, adapters: dict[str, str | None] | None, cards: list[tuple[str, str]]
) -> None:
    monkeypatch.setitem(sys.modules, "winreg", Registry(adapters))
    monkeypatch.setattr(sys, "platform", "win32")
    assert gpu.list_pci_gpus() == cards
    assert len(gpu.driver_versions()) == len([name for name in (adapters or {}).values() if name])
    assert all(version.startswith("31.0") for version in gpu.driver_versions())
