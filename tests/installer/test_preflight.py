"""What is refused before anything is done, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from installer.disk import GIB, cache_folder
from installer.errors import Stop
from installer.layout import Layout
from installer.preflight import check_machine, path_problem
from installer.runner import Runner

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    "name", ["with space", "naïve-日本", "it's", 'q"uote', "do$HOME", "semi;colon", "(1)", "a%b#c"]
)
def test_unusual_folder_names_are_fine(name: str) -> None:
    assert path_problem(Path("/home/someone") / name) == ""


@pytest.mark.parametrize(
    ("name", "word"), [("a:b", "separates"), ("a\nb", "control"), ("a\tb", "control"), ("a\udcffb", "UTF-8")]
)
def test_folder_names_that_cannot_work_are_refused(layout: Layout, name: str, word: str) -> None:
    with pytest.raises(Stop, match=f"{word}.*Move it"):
        check_machine(Layout(layout.root / name), new=True)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="venv refuses it since 3.11")
def test_python_itself_agrees_about_the_colon(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "a:b"], capture_output=True, check=False
    )
    assert made.returncode != 0


def test_a_full_disk_is_refused_with_numbers(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10, 9, GIB // 2))
    with pytest.raises(Stop, match=r"has 0\.5 GiB free, and the installation needs 2 GiB\. Free some space"):
        check_machine(layout, new=True)


@pytest.mark.parametrize(
    ("environ", "home", "expected"),
    [
        ({}, True, "~/.cache/uv"),
        ({"XDG_CACHE_HOME": "HERE/x"}, False, "HERE/x/uv"),
        ({"UV_CACHE_DIR": "HERE/u", "XDG_CACHE_HOME": "/proc/nope"}, False, "HERE/u"),
        ({}, False, "ours"),
        ({"XDG_CACHE_HOME": "/proc/nope"}, True, "ours"),
        ({"XDG_CACHE_HOME": "HERE/file"}, True, "ours"),
        ({"UV_CACHE_DIR": "HERE/file/x"}, True, "ours"),
        ({"XDG_CACHE_HOME": "/dev/null"}, True, "ours"),
    ],
)
def test_the_cache_is_where_it_can_be_written(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    home: bool,
    expected: str,
) -> None:
    here = layout.root.parent
    (here / "file").touch()
    monkeypatch.delenv("XDG_CACHE_HOME")
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("HERE", str(here)))
    if home:
        monkeypatch.setenv("HOME", str(here))
    else:
        monkeypatch.setattr(Path, "expanduser", _no_home)
    ours = layout.files / "cache"
    found = cache_folder(os.environ, layout)
    assert found == (ours if expected == "ours" else Path(expected.replace("HERE", str(here)).replace("~", str(here))))
    assert sorted(here.iterdir()) == [here / "file", layout.root], "looking leaves nothing behind"
    check_machine(layout, new=True)
    assert (str(ours) in capsys.readouterr().out) == (expected == "ours")
    layout.tmp.mkdir(parents=True)
    assert Runner(layout).environ.get("UV_CACHE_DIR") == (
        str(ours) if expected == "ours" else os.environ.get("UV_CACHE_DIR")
    )


def _no_home(self: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_folder_without_rights_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere, so no real one
    with pytest.raises(Stop, match="cannot be written to"):
        check_machine(layout, new=True)
