"""Files of earlier runs are deleted by name and age; recent files and those of others stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from modules.app import App
from modules.config.cleanup import delete_old_files, delete_temporaries

OURS = f".{'0a' * 8}.tmp"


def make(path: Path, hours: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


@pytest.mark.parametrize(
    ("name", "hours", "stays"),
    [
        (OURS, 2, False),
        (OURS, 0.5, True),  # another server may be writing it
        (OURS, -2, True),
        (OURS.upper(), 2, True),
        (f"{OURS}.bak", 2, True),
        (OURS[1:], 2, True),
        (".0a0a.tmp", 2, True),
        (f".{'0g' * 8}.tmp", 2, True),
        ("mine.tmp", 2, True),
        ("settings.yaml", 200, True),
    ],
)
def test_temporaries_go_when_they_are_ours_and_old(tmp_path: Path, name: str, hours: float, stays: bool) -> None:
    flat, deep = make(tmp_path / "flat" / name, hours), make(tmp_path / "deep" / "a" / "b" / name, hours)
    below = make(tmp_path / "flat" / "below" / name, hours)
    assert delete_temporaries([flat.parent, tmp_path / "nowhere"], deep=[tmp_path / "deep"]) == (0 if stays else 2)
    assert flat.exists() is stays
    assert deep.exists() is stays
    assert below.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_is_neither_followed_nor_removed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside" / OURS, 100)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(outside.parent)
    (tmp_path / "in" / OURS).symlink_to(outside)
    assert delete_temporaries([], deep=[tmp_path / "in"]) == 0
    assert delete_old_files(tmp_path / "in") == 0
    assert outside.exists()


def test_what_passed_through_goes_after_a_day_with_its_folder(tmp_path: Path) -> None:
    old, young = make(tmp_path / "a" / "x.png", 25), make(tmp_path / "b" / "y.png", 23)
    mixed = make(tmp_path / "c" / "old.png", 25), make(tmp_path / "c" / "young.png", 1)
    for folder in (old.parent, young.parent, mixed[0].parent):
        os.utime(folder, (time.time() - 90_000, time.time() - 90_000))
    assert delete_old_files(tmp_path) == 2
    assert not old.parent.exists()
    assert young.exists()
    assert not mixed[0].exists()
    assert mixed[1].exists()
    assert delete_old_files(tmp_path / "nowhere") == 0


def test_the_start_clears_the_user_s_folders(tmp_path: Path) -> None:
    places = ("", "presets", "characters", "logs/chat/Assistant", "models", "models/folder", "prompts", "cache")
    left = [make(tmp_path / place / OURS, 2) for place in places]
    kept = [make(tmp_path / place / f".{'1b' * 8}.tmp", 0) for place in places]
    App.build(tmp_path, []).close()
    assert not [each for each in left if each.exists()]
    assert all(each.exists() for each in kept)
