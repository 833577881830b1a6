"""Files have their old or new contents, never a mix."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modules.config import atomic


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    atomic.write_text(path, "one\ntwo\r\nthrée")
    assert path.read_bytes() == "one\ntwo\r\nthrée".encode()
    assert [each.name for each in path.parent.iterdir()] == ["a.txt"]


def test_json_is_readable_and_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"text": "Grüße", "list": [1, None]})
    assert "Grüße" in path.read_text(encoding="utf-8")
    atomic.write_json(path, {"half": "\ud83d"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"half": "\ud83d"}


def test_the_old_file_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")
def test_links_and_the_umask_are_respected(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    old = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "link.txt", "new")
    finally:
        os.umask(old)
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    assert (tmp_path / "real.txt").stat().st_mode & 0o777 == 0o640
