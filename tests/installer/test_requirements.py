"""requirements.txt: its stamp, and that the lock, its source and the test tools agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from installer.environment import UV
from installer.errors import Stop
from installer.layout import Layout
from installer.requirements import fingerprint

ROOT = Path(__file__).resolve().parents[2]


def test_changed_requirements_change_the_fingerprint(layout: Layout) -> None:
    before = fingerprint(layout)
    layout.requirements.write_text("gradio==2.0\n")
    assert fingerprint(layout) != before
    layout.requirements.unlink()
    with pytest.raises(Stop, match=r"requirements\.txt cannot be read"):
        fingerprint(layout)


def test_the_lock_holds_what_is_asked_for_and_no_addresses() -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    pinned = {line.split(" ")[0] for line in lock.splitlines() if "==" in line}
    for line in (ROOT / "requirements.in").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            assert line.split(" ")[0].lower() in pinned
    assert "://" not in lock
    assert re.fullmatch(r"uv==[\d.]+", UV)


def test_the_program_and_its_test_tools_agree_on_versions() -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    versions = dict(re.findall(r"^([\w-]+)==([\w.]+)$", lock, re.MULTILINE))
    for name, version in re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE):
        assert versions.get(name.lower(), version) == version
