"""start_linux.sh on machines that have a shell and almost nothing else; the downloads come from loopback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ["one_click.py", "installer/__init__.py"]
TOOLS = ["sh", "dirname", "readlink", "uname", "tar", "gzip", "mkdir", "rm", "rmdir", "mv", "sha256sum", "cut"]

# A Python that passes the script's tests and prints its arguments.
FAKE_PYTHON = '#!/bin/sh\n[ "$1" = -I ] && exit 0\necho "RAN $0"\nfor a in "$@"; do echo "ARG $a"; done\nexit 7\n'

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Machine:
    """A project folder and a PATH that contains only what a test puts there."""

    def __init__(self, folder: Path, name: str = "project") -> None:
        self.project = folder / name
        self.bin = folder / "bin"
        self.project.mkdir()
        self.bin.mkdir()
        for script in ("start_linux.sh", "start_macos.sh"):
            shutil.copy(ROOT / script, self.project)
        (self.project / "installer").mkdir()
        for part in PARTS:
            (self.project / part).write_text("")
        for tool in TOOLS:
            self.add(tool)

    def add(self, tool: str) -> None:
        found = shutil.which(tool)
        if not found:
            pytest.skip(f"{tool} is not installed here")
        (self.bin / tool).symlink_to(found)

    def add_python(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FAKE_PYTHON)
        path.chmod(0o755)

    def tarball(self, mirror: Path, *, right: bool) -> None:
        """The mirror's archive, for every platform; `right` makes the script expect its hash."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            info = tarfile.TarInfo("python/bin/python3")
            info.size, info.mode = len(FAKE_PYTHON), 0o755
            tar.addfile(info, io.BytesIO(FAKE_PYTHON.encode()))
        script = self.project / "start_linux.sh"
        text = script.read_text("utf-8")
        release, version = (re.search(rf"^{name}=(\S+)", text, re.M)[1] for name in ("release", "version"))  # type: ignore[index]
        (mirror / release).mkdir(parents=True)
        for target in re.findall(r"target=(\S+)", text):
            name = f"cpython-{version}+{release}-{target}-install_only_stripped.tar.gz"
            (mirror / release / name).write_bytes(packed.getvalue())
        if right:
            digest = hashlib.sha256(packed.getvalue()).hexdigest()
            script.write_text(re.sub(r"sha256=[0-9a-f]{64}", f"sha256={digest}", text), "utf-8")

    def start(
        self, *arguments: str, mirror: str = "http://127.0.0.1:1", script: str = "start_linux.sh", **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.project / script), *arguments],
            env={"PATH": str(self.bin), "PYTHON_MIRROR": mirror, "HOME": str(self.project), **more},
            cwd="/", text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_without_python_a_private_one_is_fetched_and_run(tmp_path: Path, tool: str) -> None:
    machine = Machine(tmp_path, "a project's földer $HOME; (1)")
    machine.add(tool)
    machine.tarball(tmp_path / "mirror", right=True)
    with served(tmp_path / "mirror") as mirror:
        ran = machine.start("--listen-port", "7999", "two words", "", mirror=mirror)
    assert ran.returncode == 7, ran.stderr
    private = machine.project / "installer_files" / "python" / "bin" / "python3"
    wanted = [str(machine.project / "one_click.py"), "--listen-port", "7999", "two words", ""]
    assert ran.stdout.splitlines()[1:] == [f"RAN {private}", *(f"ARG {argument}" for argument in wanted)]
    assert sorted(path.name for path in (machine.project / "installer_files").iterdir()) == ["python"]

    again = machine.start()  # no mirror any more: the private Python exists
    assert again.returncode == 7
    assert "fetching" not in again.stdout


def test_a_download_with_another_hash_is_thrown_away(machine: Machine, tmp_path: Path) -> None:
    machine.add("curl")
    machine.tarball(tmp_path / "mirror", right=False)
    with served(tmp_path / "mirror") as mirror:
        ran = machine.start(mirror=mirror)
    assert ran.returncode == 1
    assert "has the wrong checksum" in ran.stderr
    assert "RAN" not in ran.stdout
    assert not (machine.project / "installer_files").exists()


def test_no_network_is_one_sentence_and_leaves_nothing(machine: Machine) -> None:
    machine.add("curl")
    ran = machine.start()
    assert ran.returncode == 1
    assert "Check the network connection" in ran.stderr.splitlines()[-1]
    assert not (machine.project / "installer_files").exists()


def test_nothing_to_download_with_is_said(machine: Machine) -> None:
    ran = machine.start()
    assert ran.returncode == 1
    assert "neither curl nor wget" in ran.stderr
    assert not (machine.project / "installer_files").exists()


def test_a_python_of_the_machine_serves(machine: Machine) -> None:
    machine.add_python(machine.bin / "python3.11")
    ran = machine.start("--api")
    assert ran.stdout.splitlines()[0] == f"RAN {machine.bin / 'python3.11'}"
    assert ran.returncode == 7


def test_a_python_without_venv_or_of_the_wrong_version_does_not_count(machine: Machine) -> None:
    unusable = machine.bin / "python3"
    unusable.write_text("#!/bin/sh\nexit 1\n")
    unusable.chmod(0o755)
    machine.add_python(machine.bin / "python3.10")
    assert machine.start().stdout.splitlines()[0] == f"RAN {machine.bin / 'python3.10'}"


def test_the_environment_starts_itself(machine: Machine) -> None:
    python = machine.project / "installer_files" / "env" / "bin" / "python"
    machine.add_python(python)
    assert machine.start().stdout.splitlines()[0] == f"RAN {python}"


def test_a_broken_environment_falls_back_to_the_machines_python(machine: Machine) -> None:
    python = machine.project / "installer_files" / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nonexistent/python3.11")
    machine.add_python(machine.bin / "python3.12")
    assert machine.start().stdout.splitlines()[0] == f"RAN {machine.bin / 'python3.12'}"


@pytest.mark.parametrize(("value", "forbids"), [("yes", True), ("1", True), ("True", True), ("no", False), ("", False)])
def test_where_nothing_may_be_installed_nothing_is_fetched(machine: Machine, value: str, forbids: bool) -> None:
    machine.add_python(machine.bin / "python3.11")
    ran = machine.start(WEBUI_NEVER_INSTALL=value)
    assert ("WEBUI_NEVER_INSTALL is set" in ran.stderr, "RAN" in ran.stdout) == (forbids, not forbids)
    machine.add_python(machine.project / "installer_files" / "env" / "bin" / "python")
    assert "RAN" in machine.start(WEBUI_NEVER_INSTALL=value).stdout


@pytest.mark.parametrize(("name", "word"), [("a:b", "colon"), ("a\nb", "control"), ("a\tb", "control")])
def test_a_folder_that_cannot_work_is_refused_before_anything_is_done(tmp_path: Path, name: str, word: str) -> None:
    machine = Machine(tmp_path, name)
    machine.add_python(machine.bin / "python3.11")
    ran = machine.start()
    assert ran.returncode == 1
    assert word in ran.stderr
    assert "Move the folder" in ran.stderr
    assert not (machine.project / "installer_files").exists()


def test_the_macos_script_is_the_same(machine: Machine) -> None:
    machine.add_python(machine.bin / "python3.11")
    ran = machine.start("--api", "two words", script="start_macos.sh")
    assert ran.stdout.splitlines()[-2:] == ["ARG --api", "ARG two words"]


def test_through_a_link_from_elsewhere(machine: Machine, tmp_path: Path) -> None:
    machine.add_python(machine.bin / "python3.11")
    link = tmp_path / "link.sh"
    link.symlink_to(machine.project / "start_linux.sh")
    ran = subprocess.run(["sh", link], env={"PATH": str(machine.bin)}, text=True, capture_output=True, check=False)
    assert f"ARG {machine.project / 'one_click.py'}" in ran.stdout


@pytest.mark.parametrize("part", PARTS)
def test_an_incomplete_project_is_said(machine: Machine, part: str) -> None:
    (machine.project / part).unlink()
    ran = machine.start()
    assert ran.returncode == 1
    assert f"{part} is missing" in ran.stderr
    assert "git clone" in ran.stderr
