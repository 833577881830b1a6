"""A compiler only counts if it has compiled something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from installer.hardware.compiler import (
    accepted_options,
    advise_compiler,
    compiler_version,
    has_compilers,
    has_visual_studio,
)
from installer.layout import Layout


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_a_missing_or_broken_compiler_is_noticed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert not has_compilers(layout)


def test_only_options_that_both_compilers_know_are_used(layout: Layout) -> None:
    assert accepted_options(layout, ["-O1", "-mno-such-thing", "-O2"]) == ["-O1", "-O2"]


def test_the_advice_fits_the_system() -> None:
    assert "apt install build-essential" in advise_compiler("posix")
    windows = advise_compiler("nt")
    assert "apt" not in windows
    assert "github.com" in windows
    assert "Build Tools" in windows


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script stands for Windows' program")
@pytest.mark.parametrize(("says", "there"), [("C:/Program Files/Microsoft Visual Studio/2022", True), ("", False)])
def test_visual_studio_is_found_by_its_installer(tmp_path: Path, says: str, there: bool) -> None:
    program = tmp_path / "Microsoft Visual Studio" / "Installer" / "vswhere.exe"
    assert not has_visual_studio(str(tmp_path))
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\ncase "$*" in *VC.Tools*) echo "{says}" ;; esac\n')
    program.chmod(0o755)
    assert has_visual_studio(str(tmp_path)) is there


def test_the_version_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiler_version()
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert compiler_version() == ""
