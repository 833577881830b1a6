"""requirements.txt: its fingerprint, and that the lock file, its source and the test tools agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from installer import make_lock
from installer.environment.environment import UV
from installer.environment.packages import Packages
from installer.environment.requirements import llama_requirement, other_requirements, requirements_fingerprint
from installer.errors import InstallStopped
from installer.layout import Layout
from modules.extensions import requirements

ROOT = Path(__file__).resolve().parents[3]


def test_changed_requirements_change_the_fingerprint(layout: Layout) -> None:
    before = requirements_fingerprint(layout)
    layout.requirements.write_text("gradio==2.0\n")
    assert requirements_fingerprint(layout) != before
    layout.requirements.unlink()
    with pytest.raises(InstallStopped, match=r"requirements\.txt cannot be read"):
        requirements_fingerprint(layout)


LOCKS = [name for name, _, _ in make_lock.LOCKS]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_is_asked_for_with_hashes_and_no_addresses(name: str) -> None:
    lock = (ROOT / f"{name}.txt").read_text("utf-8")
    pinned = {line.split(" ")[0] for line in make_lock.strip_hashes(lock).splitlines()}
    for line in (ROOT / f"{name}.in").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            assert line.split(" ")[0].lower() in pinned
    assert "://" not in lock
    assert "index" not in lock
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block
    assert re.fullmatch(r"uv==[\d.]+", UV)


PINS = {
    "one==1 \\\n    --hash=sha256:00\n": "one==1\n",
    "one==1 ; os_name == 'nt' \\\n    --hash=sha256:00\n    # via two\n": "one==1 ; os_name == 'nt'\n",
    "Some_Name.x-y==1.0+cpu    # why\r\n": "Some_Name.x-y==1.0+cpu\n",
    "one[extra,other]==1 \\\n": "one==1\n",
    "# one==1\n    two==2\n--hash=sha256:00\nthree>=3\nfour @ https://example.invalid/a==b\n": "",
    "one==1\ntwo==2": "one==1\ntwo==2\n",
}


@pytest.mark.parametrize("text", [*PINS, *LOCKS])
def test_who_makes_the_locks_and_who_is_held_to_them_read_them_alike(text: str) -> None:
    """The program must not import the installer, so each has its own reader."""
    lock = text if text in PINS else (ROOT / f"{text}.txt").read_text("utf-8")
    found = make_lock.strip_hashes(lock)
    assert requirements.to_constraints(lock) == found
    assert found == PINS.get(text, found)
    assert {line.partition("==")[0] for line in found.splitlines()} == make_lock.package_names(lock)
    for line in found.splitlines():
        Requirement(line)
    if text in LOCKS:
        assert len(found.splitlines()) == len(re.findall(r"^\S.*==", lock, re.MULTILINE))


def test_locks_agree_where_they_name_the_same() -> None:
    known: dict[str, set[str]] = {}
    for name in LOCKS:
        for line in make_lock.strip_hashes((ROOT / f"{name}.txt").read_text("utf-8")).splitlines():
            package = line.split("==")[0]
            known.setdefault(package, set()).add(name)
    assert not {package: where for package, where in known.items() if len(where) > 1}


def test_what_is_left_of_the_lock_without_llama_cpp_is_the_rest(layout: Layout) -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    for ends in ("\n", "\r\n"):
        layout.requirements.write_bytes(lock.replace("\n", ends).encode())
        rest = other_requirements(layout)
        assert make_lock.package_names(rest) == make_lock.package_names(lock) - {"llama-cpp-python"}
        assert rest.count("--hash") < lock.count("--hash")
        assert llama_requirement(layout) in lock


def test_uv_takes_the_lock_and_refuses_another_package_of_the_same_name(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    block = next(each for each in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE) if each.startswith("pluggy=="))
    for text, taken in ((block, True), (re.sub("sha256:.{64}", "sha256:" + 64 * "0", block), False)):
        file = tmp_path / "requirements.txt"
        file.write_text(text, "utf-8")
        command = [sys.executable, "-m", "uv", "pip", "install", "--target", str(tmp_path / str(taken)), "--quiet"]
        got = subprocess.run([*command, *Packages.locked(file)], capture_output=True, text=True, check=False)
        assert (got.returncode == 0) is taken, got.stderr
