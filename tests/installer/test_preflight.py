"""What is refused before anything is changed, and what is not."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from installer.errors import InstallStopped
from installer.hardware import disk
from installer.hardware.disk import GIB, cache_folder, space_problem, uv_default_cache
from installer.layout import Layout
from installer.preflight import check_machine, check_space, path_problem, path_warnings
from installer.runner import Runner
from installer.sizes import InstallSize, install_size
from installer.torch.torch_builds import CUDA_128

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
    with pytest.raises(InstallStopped, match=f"{word}.*Move it"):
        check_machine(Layout(layout.root / name))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="venv refuses it since 3.11")
def test_python_itself_agrees_about_the_colon(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "a:b"], capture_output=True, check=False
    )
    assert made.returncode != 0


NVIDIA, PROCESSOR = install_size(CUDA_128, cuda=True), install_size(None, cuda=False)


@pytest.mark.parametrize(
    ("free", "needs", "said"),
    [
        (2 * GIB, PROCESSOR, ""),
        (GIB // 2, PROCESSOR, r"has 0\.5 GiB free, but the installation needs 2 GiB\. Free some disk space"),
        (6 * GIB, PROCESSOR, ""),
        (6 * GIB, NVIDIA, r"has 6\.0 GiB free, but the installation needs 16 GiB\. Free some disk space"),
        (17 * GIB, NVIDIA, ""),
    ],
)
def test_a_full_disk_is_refused_with_numbers_that_fit_the_card(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, free: int, needs: InstallSize, said: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10, 9, free))
    with pytest.raises(InstallStopped, match=said) if said else contextlib.nullcontext():
        check_space(layout, needs, new=True)


def test_what_comes_is_said_before(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    check_space(layout, PROCESSOR, new=True)
    assert "Downloading up to 0.3 GB" in capsys.readouterr().out
    with_card = install_size(CUDA_128, cuda=True)
    assert 5.3e9 < with_card.fetched < 5.7e9
    assert install_size(CUDA_128, cuda=True, base=False).fetched < with_card.fetched


def test_each_disk_is_asked_for_what_lies_on_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache on another disk counts there; on the same disk they count together."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10, 9, 6 * GIB))
    here, there = layout.root, Path("/proc")
    assert space_problem({here: 5 * GIB, there: 5 * GIB}) == ""
    assert "needs 10 GiB" in space_problem({here: 5 * GIB, here.parent: 5 * GIB})
    assert space_problem({here: 5 * GIB, here.parent: 5 * GIB}, freed=4 * GIB) == ""


def test_the_environment_before_makes_way_and_its_end_is_offered(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.last.mkdir(parents=True)
    layout.last_state.touch()
    with (layout.last / "large").open("wb") as large:
        large.truncate(3 * GIB)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10, 9, GIB))
    check_space(layout, PROCESSOR, new=True)
    with pytest.raises(InstallStopped, match=r"delete the previous environment \(3\.0 GiB: --clean\)"):
        check_space(layout, PROCESSOR, new=False)


@pytest.mark.parametrize(
    ("root", "long_paths", "words"),
    [
        (r"C:\text-generation-webui", False, ""),
        ("C:\\" + "a" * 47, False, ""),
        ("C:\\" + "a" * 48, False, "has 51 characters.*torch allows at most 50"),
        ("C:\\" + "a" * 48, True, ""),
        ("C:\\" + "a" * 140, False, "has 143 characters.*torch allow at most 124"),
        (r"C:\Users\me\OneDrive\webui", False, "is in OneDrive"),
        (r"D:\Wolke\webui", True, "is in OneDrive"),
        (r"C:\Users\me\OneDrive - Firm\webui", True, "is in OneDrive"),
    ],
)
def test_what_windows_makes_of_a_path(root: str, long_paths: bool, words: str) -> None:
    found = path_warnings(root, {"OneDrive": r"D:\wolke"}, long_paths=long_paths)
    assert len(found) == bool(words)
    assert re.search(words, " ".join(found))


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/uv/cache"),
        ("win32", {"LOCALAPPDATA": "/l", "XDG_CACHE_HOME": "/x"}, "/l/uv/cache"),
        ("win32", {}, "None"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/x/uv"),
        ("linux", {"UV_CACHE_DIR": "/u", "XDG_CACHE_HOME": "/x"}, "/u"),
    ],
)
def test_the_cache_is_where_uv_has_it_on_each_system(platform: str, environ: dict[str, str], expected: str) -> None:
    found = uv_default_cache(environ, platform)
    assert (found.as_posix() if found else "None") == expected


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script")
def test_uv_itself_is_asked_where_its_cache_is(layout: Layout) -> None:
    """Its own settings count: uv.toml may name another folder."""
    uv = layout.python.with_name("uv")
    uv.parent.mkdir(parents=True)
    uv.write_text(f'#!/bin/sh\n[ "$*" = "cache dir" ] && echo "{layout.root.parent}/elsewhere"\n')
    uv.chmod(0o755)
    assert cache_folder(os.environ, layout) == layout.root.parent / "elsewhere"
    uv.write_text("#!/bin/sh\nexit 2\n")
    disk._uv_says.cache_clear()
    assert cache_folder(os.environ, layout) == layout.root.parent / "cache" / "uv"


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
        ({"XDG_CACHE_HOME": "relative"}, True, "~/.cache/uv"),
        ({"XDG_CACHE_HOME": "relative", "HOME": ""}, True, "ours"),
        ({"HOME": "relative"}, True, "ours"),
        ({"UV_CACHE_DIR": "relative"}, False, "HERE/relative"),
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
    monkeypatch.chdir(here)
    monkeypatch.delenv("XDG_CACHE_HOME")
    if home:
        monkeypatch.setenv("HOME", str(here))
    else:
        monkeypatch.setattr(Path, "expanduser", _no_home)
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("HERE", str(here)))
    ours = layout.files / "cache"
    found = cache_folder(os.environ, layout)
    assert found == (ours if expected == "ours" else Path(expected.replace("HERE", str(here)).replace("~", str(here))))
    assert sorted(here.iterdir()) == [here / "file", layout.root], "looking leaves nothing behind"
    check_machine(layout)
    assert (str(ours) in capsys.readouterr().out) == (expected == "ours")
    layout.tmp.mkdir(parents=True)
    told = Runner(layout).environ.get("UV_CACHE_DIR", str(found))
    assert told == str(found), "what is started, in another folder, is told the same"


def _no_home(self: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_folder_without_rights_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere, so no real one
    with pytest.raises(InstallStopped, match="is not writable"):
        check_machine(layout)
