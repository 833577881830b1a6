"""The cards: one letter is an answer, a detection has a reason, driver and sysfs are read as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from installer import gpu


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
        ("Linux", "x86_64", "", [("0x8086", "0x9bc5")], "N", "no graphics card"),
        ("Linux", "aarch64", "", [], "N", "no graphics card"),
    ],
)
def test_detection_gives_a_letter_and_the_reason(
    system: str, machine: str, nvidia: str, cards: list[tuple[str, str]], letter: str, reason: str
) -> None:
    found, why = gpu.detect_gpu(system, machine, nvidia, cards)
    assert found == letter
    assert reason in why


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo 'GPU 1: Other (UUID: GPU-2)'", "NVIDIA H200"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ""),
        ("exit 0", ""),
    ],
)
def test_the_drivers_own_list_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, name: str) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.nvidia_card() == name
    fake.unlink()
    assert gpu.nvidia_card() == ""


def test_cards_are_read_from_sysfs(tmp_path: Path) -> None:
    device = tmp_path / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "device").write_text("0x73bf\n")
    (tmp_path / "card0-HDMI-A-1").mkdir()
    assert gpu.pci_cards(tmp_path) == [("0x1002", "0x73bf")]
    assert gpu.pci_cards(tmp_path / "absent") == []
