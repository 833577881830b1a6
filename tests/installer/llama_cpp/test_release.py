"""llama.cpp's release builds, from a release on loopback: installed completely or not at all, tested, and reused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from installer.environment import in_place_update
from installer.environment.packages import Packages
from installer.environment.plan import what_to_install
from installer.environment.variables import clean_environ
from installer.errors import InstallStopped
from installer.hardware.nvidia import NvidiaGpu
from installer.layout import Layout
from installer.llama_cpp import archive, library_pointer, release
from installer.llama_cpp.llama_builds import LlamaBuild
from installer.llama_cpp.release import LlamaRelease
from installer.llama_cpp.release_table import TABLE, LlamaReleaseBuild, ReleasePins
from installer.runner import Runner
from installer.state import read_state
from tests.installer.stage import calls, finished, make_environment
from tests.installer.web import Web, web

ROOT = Path(__file__).parents[3]
NAME = "llama-{tag}-bin-ubuntu-x64.tar.gz"
RELEASE = LlamaReleaseBuild("the processor (llama.cpp's build)", archives=(NAME,))
COMPILED = LlamaBuild("the processor")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web() as found:
        yield found


def packed(folder: Path | None = None, tag: str = "b7") -> bytes:
    """A release's archive, from a folder of libraries or an invalid one."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
        if folder:
            opened.add(folder, f"llama-{tag}")
        else:
            info = tarfile.TarInfo(f"llama-{tag}/libllama.so")
            info.size = 3
            opened.addfile(info, io.BytesIO(b"elf"))
    return gzip.compress(made.getvalue(), mtime=0)  # the same bytes each time


def served(there: Web, content: bytes | None = None, tag: str = "b7") -> ReleasePins:
    content = packed(tag=tag) if content is None else content
    there.files[f"/{tag}/{NAME.format(tag=tag)}"] = content
    return ReleasePins("llama-cpp-python==9", tag, there.address, {NAME: hashlib.sha256(content).hexdigest()})


def llama(layout: Layout, pins: ReleasePins) -> LlamaRelease:
    return LlamaRelease(Packages(Runner(layout)), pins)


def exchanged(layout: Layout, pins: ReleasePins, *plan: LlamaBuild) -> tuple[str, str]:
    """As in one_click: releases that nothing uses are deleted when everything is done."""
    found = llama(layout, pins).install(plan)
    llama(layout, pins).throw_away_unused()
    return found


def fail(layout: Layout, times: int) -> None:
    (layout.python.parent / "no-compute").write_text("noise\n" * times)


def test_a_release_is_fetched_unpacked_pointed_to_and_tried(layout: Layout, there: Web) -> None:
    make_environment(layout)
    found = llama(layout, served(there)).install([RELEASE, COMPILED])
    assert found == ("the processor (llama.cpp's build)", "release b7 of llama.cpp; tried: 100 tokens read")
    folder = layout.files / "llama" / "b7-the-processor"
    assert (folder / "libllama.so").read_bytes() == b"elf"
    assert library_pointer.pointed_folder(layout.env) == folder
    assert not library_pointer.is_dangling(layout)
    made, installed, tried = [call for call in calls(layout) if "llama" in call and "uninstall" not in call]
    assert "pip wheel" in made
    assert "--no-binary llama-cpp-python" in made, "the binding alone"
    assert "none-any.whl" in installed
    assert "self_test" in tried
    assert not list(layout.tmp.glob("*.tar.gz"))

    assert llama(layout, served(there)).install([RELEASE])[0] == RELEASE.name
    assert there.asked == [f"/b7/{NAME.format(tag='b7')}"], "what is there whole is not fetched again"
    assert sum("pip wheel" in call for call in calls(layout)) == 1


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "manifest", "another archive"])
def test_what_is_there_but_not_whole_is_fetched_again(layout: Layout, there: Web, damage: str) -> None:
    make_environment(layout)
    pins = served(there)
    llama(layout, pins).install([RELEASE])
    library = layout.files / "llama" / "b7-the-processor" / "libllama.so"
    if damage == "another archive":
        pins = served(there, packed(ROOT / "presets"))
    elif damage == "manifest":
        library.with_name(library_pointer.MANIFEST).write_text("{")
    elif damage == "gone":
        library.unlink()
    else:
        library.write_bytes(b"fle" if damage == "changed" else b"el")
    (layout.files / "llama" / "b7-the-processor.part").mkdir()  # of an interrupted one
    assert llama(layout, pins).install([RELEASE])[0] == RELEASE.name
    assert len(there.asked) == 2
    assert damage == "another archive" or library.read_bytes() == b"elf"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gone", "could not be downloaded"),
        ("cut", "the connection ended"),
        ("wrong", "has the wrong checksum"),
        ("hostile", "outside"),
        ("damaged", "is damaged"),
        ("full", r"cannot be written \(No space left on device\)"),
        ("no binding", "could not be installed without its libraries"),
        ("not installed", "its message is above"),
        ("does not compute", "it was ended by SIGSEGV"),
        ("unpinned", "no release is named"),
    ],
)
def test_whatever_goes_wrong_the_next_way_is_taken_and_nothing_stays(
    layout: Layout, there: Web, monkeypatch: pytest.MonkeyPatch, how: str, words: str
) -> None:
    make_environment(layout)
    content = packed()
    if how == "hostile":
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as opened:
            opened.addfile(tarfile.TarInfo("../out.so"))
        content = made.getvalue()
    elif how == "damaged":
        content = content[:-20]
    pins, path = served(there, content), f"/b7/{NAME.format(tag='b7')}"
    if how == "gone":
        there.files.clear()
    elif how == "cut":
        there.cut[path] = 2
    elif how == "wrong":
        there.files[path] = b"<html>"
    elif how == "full":
        monkeypatch.setattr(archive, "unpack", _full)
    elif how == "does not compute":
        fail(layout, 1)
    elif how == "unpinned":
        pins = ReleasePins("llama-cpp-python==9")
    elif how == "no binding":
        (layout.python.parent / "no-compile").touch()
    elif how == "not installed":
        (layout.python.parent / "no-kept").touch()
    wheel = layout.root.parent / "cache" / "text-generation-webui"
    plan = [RELEASE, COMPILED]
    if how == "no binding":
        with pytest.raises(InstallStopped, match=words):
            llama(layout, pins).install(plan)
    else:
        name, said = exchanged(layout, pins, *plan)
        assert name == "the processor"
        assert re.search(words, said), said
        assert list(wheel.rglob("*.whl"))
    assert library_pointer.pointed_folder(layout.env) is None
    if how != "no binding":  # there the next start continues with them
        assert not list(layout.files.rglob("libllama.so"))
    assert not list(layout.files.rglob("*.part"))
    assert not (layout.root.parent / "out.so").exists()


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_hash_that_is_not_told_is_no_reason_to_fetch(layout: Layout, there: Web) -> None:
    make_environment(layout)
    pins = served(there)
    plan = release.add_releases(
        [COMPILED], "N", "llama-cpp-python==9", compiler=True, pins=ReleasePins(pins.binding, "b7")
    )
    assert plan == [COMPILED]
    assert not llama(layout, ReleasePins(pins.binding, "b7")).at_hand(RELEASE)
    assert llama(layout, pins).at_hand(RELEASE)
    assert not there.asked


def test_why_they_are_passed_over_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert release.add_releases([COMPILED], "N", "llama-cpp-python==9", compiler=False, pins=ReleasePins()) == [
        COMPILED
    ]
    assert "skipped: no release is named in llama_release.json." in capsys.readouterr().out


def test_the_newest_of_several_cards_decides_here_as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA 12.4's build, the first one for older GPUs on Windows, has no code for the newest."""
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    every = {name: "0" * 64 for kinds in TABLE.values() for release in kinds.values() for name in release.archives}
    pins = ReleasePins("llama-cpp-python==9", "b7", "http://x", every)
    cards = [NvidiaGpu("GTX 1080", (6, 1), (591, 44)), NvidiaGpu("RTX 5090", (12, 0), (591, 44))]
    for each in (cards, cards[::-1]):
        plan = release.add_releases([], "A", "llama-cpp-python==9", compiler=False, pins=pins, cards=each)
        assert plan[0].name.startswith("CUDA 13.4")


def test_other_ways_use_no_libraries_of_a_release(layout: Layout, there: Web) -> None:
    make_environment(layout)
    llama(layout, served(there)).install([RELEASE])
    exchanged(layout, served(there), COMPILED)
    assert sum("pip uninstall" in call for call in calls(layout)) == 2, "the binding without libraries is taken out"
    assert library_pointer.pointed_folder(layout.env) is None
    assert not list((layout.files / "llama").glob("*/")), "nobody uses it any more"


def test_what_the_environment_before_uses_stays(layout: Layout, there: Web) -> None:
    make_environment(layout)
    llama(layout, served(there)).install([RELEASE])
    shutil.copytree(layout.env, layout.last)
    for tag in ("b8", "b9"):
        exchanged(layout, served(there, tag=tag), RELEASE)
    kept = sorted(path.name for path in (layout.files / "llama").iterdir() if path.is_dir())
    assert kept == ["b7-the-processor", "b9-the-processor"]


def test_what_an_environment_uses_that_may_come_back_stays(layout: Layout, there: Web) -> None:
    """Another release is installed, and something after it fails: the old environment finds its libraries unchanged."""
    finished(layout)
    llama(layout, served(there)).install([RELEASE])
    in_place_update.move_aside(layout)
    exchanged(layout, served(there, tag="b8"), RELEASE)
    assert library_pointer.pointed_folder(layout.env) == layout.files / "llama" / "b8-the-processor"
    in_place_update.restore_environment(layout)
    assert library_pointer.pointed_folder(layout.env) == layout.files / "llama" / "b7-the-processor"
    assert not library_pointer.is_dangling(layout)
    in_place_update.move_aside(layout)
    exchanged(layout, served(there, tag="b8"), RELEASE)
    in_place_update.finish_change(layout)
    llama(layout, served(there)).throw_away_unused()
    assert [path.name for path in (layout.files / "llama").glob("*/")] == ["b8-the-processor"]


@pytest.mark.parametrize("damage", ["llama", "llama/b7-the-processor", "llama/b7-the-processor/manifest.json"])
def test_libraries_that_were_moved_away_are_noticed_at_the_start_and_fetched_again(
    layout: Layout, there: Web, damage: str
) -> None:
    finished(layout)
    llama(layout, served(there)).install([RELEASE])
    assert what_to_install(layout, read_state(layout), {}) == ("", False)
    (layout.files / damage).rename(layout.root / "away")
    reason, new = what_to_install(layout, read_state(layout), {})
    assert reason.startswith("llama.cpp's libraries are missing from installer_files/llama")
    assert not new
    before = len(calls(layout))
    assert llama(layout, served(there)).still(RELEASE.name) == ""
    assert llama(layout, served(there)).install([RELEASE, COMPILED])[0] == RELEASE.name
    assert sum("self_test" in call for call in calls(layout)[before:]) == 1, "what is not there is not tried"
    assert what_to_install(layout, read_state(layout), {}) == ("", False)


def test_only_what_a_pointer_has_set_is_taken_from_the_environment(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(layout)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(layout.files / "llama" / "b6-gone"))
    assert "LLAMA_CPP_LIB_PATH" not in clean_environ(layout)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", "/opt/llama")
    assert clean_environ(layout)["LLAMA_CPP_LIB_PATH"] == "/opt/llama"


@pytest.fixture
def real(layout: Layout) -> Layout:
    """An environment with its own Python, which finds the packages of the one that runs the tests."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(layout.env)], check=True)
    own = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (layout.site_packages / "packages.pth").write_text(f"{own}\n")
    return layout


@pytest.mark.skipif(os.name == "nt", reason="the layout of Linux and macOS")
@pytest.mark.parametrize("backends", [False, True])
def test_every_python_of_the_environment_takes_the_releases_libraries(
    real: Layout, there: Web, monkeypatch: pytest.MonkeyPatch, backends: bool
) -> None:
    """The libraries of the installed package stand for a release's, and go the whole way but the binding's.

    `backends`: libraries in the release's own layout, built from the pinned source (docs/llama-releases.md), which the
    variable LLAMA_RELEASE_LIBRARIES names the folder of.
    """
    from loaders.llamacpp import library

    built = os.environ.get("LLAMA_RELEASE_LIBRARIES", "")
    if backends and not built:
        pytest.skip("LLAMA_RELEASE_LIBRARIES names no libraries of that layout")
    if backends:
        assert list(Path(built).glob("libggml-cpu-*")), "a variant for each kind of processor"
    pins = served(there, packed(Path(built) if backends else library.FOLDER))
    monkeypatch.setattr(LlamaRelease, "_binding", lambda _: "")
    monkeypatch.setattr(LlamaRelease, "remove", lambda _: library_pointer.remove_pointer(real))
    real.root.joinpath("loaders").symlink_to(ROOT / "loaders")
    for name in ("errors", "modules"):
        real.root.joinpath(name).symlink_to(ROOT / name)
    name, how = llama(real, pins).install([RELEASE])
    assert (name, how.partition(";")[0]) == (RELEASE.name, "release b7 of llama.cpp")
    ask = "from loaders.llamacpp import library; print(library.FOLDER)"
    ran = subprocess.run([real.python, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == str(real.files.resolve() / "llama" / "b7-the-processor"), ran.stderr

    shutil.rmtree(real.files / "llama")
    ran = subprocess.run([real.python, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "llama.cpp's library (in " in ran.stderr.splitlines()[-1]
