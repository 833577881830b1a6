"""Unexpected errors end with a sentence, and their traceback is in a file."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest

import one_click
from installer.layout import Layout
from installer.unexpected_errors import describe_error

CASES = [
    (
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        "The disk is full (/x). Free some disk space, then start again.",
    ),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), "Permission denied (/x). Change the owner"),
    (OSError(errno.EROFS, "Read-only file system"), "The disk is read-only. Make it writable, then start again."),
    (OSError(errno.EIO, "Input/output error"), "may be failing"),
    (RuntimeError("Could not determine home directory."), "(RuntimeError: Could not determine home directory.)"),
    (KeyError("gpu"), "(KeyError: 'gpu')"),
    (ValueError(), "(ValueError)"),
]


@pytest.mark.parametrize(("error", "words"), CASES)
@pytest.mark.parametrize("place", ["ours", "temporary", "none"])
def test_it_is_a_sentence_and_a_log(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str, place: str
) -> None:
    temporary = layout.root.parent / "temporary"
    if place == "ours":
        layout.files.mkdir()
    elif place == "temporary":
        temporary.mkdir()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    said = describe_error(layout, error)
    assert words in said
    logs = [path for path in (layout.log, *temporary.glob("*.log")) if path.exists()]
    assert len(logs) == (place != "none")
    assert all(str(log) in said and type(error).__name__ in log.read_text() for log in logs)


def test_main_ends_with_it(layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    layout.files.mkdir()

    def fails(*_: object) -> int:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(one_click, "run", fails)
    assert one_click.main([]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(layout.log) in said


@pytest.mark.skipif(os.name == "nt", reason="accounts without a home are a matter of POSIX")
@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_another_python_is_refused_with_a_sentence(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: tuple[int, int]
) -> None:
    monkeypatch.setattr(one_click, "__file__", str(layout.root / "one_click.py"))
    monkeypatch.setattr("sys.version_info", (*version, 0, "final", 0))
    assert one_click.main([]) == 1
    said = capsys.readouterr().err
    assert f"This is Python {version[0]}.{version[1]}, but the web UI requires 3.10 to 3.13" in said
    assert "start_" in said
