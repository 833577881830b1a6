"""The Windows scripts in a real cmd, wine's, with stubs instead of Windows programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(ROOT.glob("*.bat"))
WINE = shutil.which("wine")
needs_wine = pytest.mark.skipif(WINE is None, reason="wine is not installed here")
SHA256 = "355ee61b8207b91574491b1c6dc9b0ebb4408fc56bfafe498f3ef439314b52dc"


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Wine's own folder, created once, and its variables."""
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path_factory.mktemp("home")), "WINEDEBUG": "-all",
        "WINEPREFIX": str(tmp_path_factory.mktemp("wine") / "prefix"), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    subprocess.run(["wine", "cmd", "/c", "exit"], env=environ, capture_output=True, timeout=180, check=False)
    return environ


class Windows:
    """A project folder, and a PATH that begins with stubs."""

    def __init__(self, folder: Path, environ: dict[str, str], name: str = "project") -> None:
        self.project = folder / name
        self.stubs = folder / "stubs"
        self.stubs.mkdir(parents=True)
        (self.project / "installer").mkdir(parents=True)
        for script in SCRIPTS:
            shutil.copy(script, self.project)
        (self.project / "one_click.py").write_text("")
        (self.project / "installer" / "__init__.py").write_text("")
        self.environ = environ
        for name in ("py", "python", "curl", "tar", "certutil"):
            self.stub(name, "@exit /b 1")

    def stub(self, name: str, *lines: str) -> None:
        (self.stubs / f"{name}.bat").write_bytes("\r\n".join(["@echo off", *lines, ""]).encode())

    def run(self, script: str = "start_windows.bat", arguments: str = "", **more: str) -> tuple[int, str]:
        """The exit code and what it printed."""
        first = self.project / "first.bat"
        stubs = "Z:" + str(self.stubs).replace("/", "\\")
        lines = ["@echo off", f'set "PATH={stubs};%PATH%"', f"call {script} {arguments}", "exit /b %errorlevel%", ""]
        first.write_bytes("\r\n".join(lines).encode())
        ran = subprocess.run(
            ["wine", "cmd", "/c", "first.bat"], cwd=self.project, env=self.environ | {"WEBUI_NO_PAUSE": "1"} | more,
            capture_output=True, timeout=180, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        first.unlink()
        return ran.returncode, ran.stdout.decode("utf-8", "replace").replace("\r", "")

    def finds_python(self, code: int = 0) -> None:
        """Without a network, and with `py -3.12` as a Python that prints its arguments."""
        self.stub("py", 'if not "%1"=="-3.12" exit /b 1', 'if "%2"=="-I" exit /b 0', "echo RAN %*", f"exit /b {code}")

    @property
    def made(self) -> list[str]:
        """New files in the folder."""
        given = {each.name for each in SCRIPTS} | {"one_click.py", "installer"}
        return sorted(each.name for each in self.project.iterdir() if each.name not in given)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_cmd_wants_of_a_script(script: Path) -> None:
    data = script.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n"), "cmd loses labels where lines end with LF"
    text = data.decode("ascii")
    assert "EnableDelayedExpansion" not in text, "a path with ! would lose it"
    labels = set(re.findall(r"(?im)^:(\w+)", text))
    assert set(re.findall(r"(?i)\bgoto :?(\w+)", text)) <= labels
    for line in text.splitlines():  # a block is read whole, with the values from before it: ) in a path would end it
        if not line.lower().startswith(("rem", "echo")):
            assert not re.search(r"\(\s*$", line), line


@needs_wine
def test_arguments_and_the_exit_code_pass_through(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    windows.finds_python(7)
    code, said = windows.run(arguments='--listen --model "a b.gguf"')
    assert code  # wine's "call" turns every code into 1; in Windows it stays 7
    assert re.search(r'RAN -3\.12 "Z:\\.*\\project\\one_click\.py" --listen --model "a b\.gguf"', said)
    assert "Failed with error code" in said
    assert windows.made == []


@needs_wine
def test_a_plain_path_needs_no_word(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    windows.finds_python()
    code, said = windows.run()
    assert code == 0
    assert "path of this folder" not in said


@needs_wine
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my web ui", "contains a space"),
        ("für mich", "characters that some Windows packages cannot handle"),
        ("ui (new) & old!", "contains characters that some"),
    ],
)
def test_a_trap_in_the_path_is_said_first_and_works(
    tmp_path: Path, prefix: dict[str, str], name: str, sentence: str
) -> None:
    windows = Windows(tmp_path, prefix, name)
    windows.finds_python()
    code, said = windows.run()
    assert code == 0
    assert said.index(sentence) < said.index("RAN")
    assert "move the folder to a plain path" in said


@needs_wine
def test_a_path_that_cannot_be_and_a_part_of_a_project(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path / "one", prefix, "a;b")
    code, said = windows.run()
    assert (code, windows.made) == (1, [])
    assert "contains a semicolon" in said
    other = Windows(tmp_path / "two", prefix)
    (other.project / "one_click.py").unlink()
    code, said = other.run()
    assert (code, other.made) == (1, [])
    assert "Download the complete project" in said


@needs_wine
def test_without_a_python_and_without_a_network(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    asked_in = "Z:" + str(windows.stubs / "asked.txt").replace("/", "\\")
    windows.stub("curl", "shift", f'copy "%~9" "{asked_in}" >nul', "exit /b 6")
    code, said = windows.run(PYTHON_MIRROR="http://127.0.0.1:9/mirror")
    assert code == 1
    assert "Downloading a private Python" in said
    assert "Python could not be downloaded. Check the network" in said
    asked = (windows.stubs / "asked.txt").read_text()
    assert re.search(
        r'url = "http://127\.0\.0\.1:9/mirror/\d{8}/cpython-3\.12\.\d+%2B\d{8}-x86_64-pc-windows-msvc-install_only_stripped'
        r'\.tar\.gz"', asked,
    )  # fmt: skip
    assert windows.made == [], "an empty folder is left behind"


@needs_wine
def test_a_download_that_is_not_what_it_should_be(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    windows.stub("curl", "exit /b 0")
    windows.stub("certutil", "echo SHA256 hash of the file:", "echo 00 11 22", "echo CertUtil: done")
    windows.stub("py", "exit /b 0")  # an installed one must not be used after a modified download
    code, said = windows.run()
    assert code == 1
    assert "the wrong checksum (SHA-256)" in said
    assert windows.made == []
    windows.stub("certutil", "echo SHA256 hash of the file:", f"echo {SHA256}", "echo CertUtil: done")
    code, said = windows.run()
    assert code == 1
    assert "could not be unpacked" in said
    assert windows.made == []
    windows.stub("tar", 'mkdir "%~4\\python"', 'echo no >"%~4\\python\\python.exe"')
    code, said = windows.run()
    assert code == 1
    assert "does not run on this system" in said


@needs_wine
def test_update_asks_for_it_and_cmd_wants_an_environment(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    windows.finds_python()
    code, said = windows.run("update_windows.bat")
    assert code == 0
    assert re.search(r"RAN .*one_click\.py\"? +--update", said)
    code, said = windows.run("update_windows.bat", "--go-back")
    assert re.search(r"one_click\.py\"? +--go-back", said)
    code, said = windows.run("cmd_windows.bat")
    assert code == 1
    assert "Run start_windows.bat first" in said


@needs_wine
@pytest.mark.parametrize("version", ["3.13", "3.11", "3.10"])
def test_another_python_than_3_12_does_not_count(tmp_path: Path, prefix: dict[str, str], version: str) -> None:
    """Prebuilt packages exist for few versions, so everyone gets the same one."""
    windows = Windows(tmp_path, prefix)
    windows.stub("py", f'if not "%1"=="-{version}" exit /b 1', 'if "%2"=="-I" exit /b 0', "echo RAN %*")
    code, said = windows.run()
    assert code == 1
    assert "Downloading a private Python" in said
    assert "RAN" not in said
    assert "install Python 3.12 yourself" in said


@needs_wine
def test_the_private_python_comes_before_an_installed_one(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    windows.finds_python()
    python = windows.project / "installer_files" / "python" / "python.exe"
    python.parent.mkdir(parents=True)
    shutil.copy(wine_program("hostname.exe", prefix), python)  # a program that fails for what it is asked
    windows.stub("curl", "echo ASKED", "exit /b 6")
    _, said = windows.run()
    assert "ASKED" in said
    assert said.index("ASKED") < said.index("RAN")


def wine_program(name: str, prefix: dict[str, str]) -> Path:
    return Path(prefix["WINEPREFIX"]) / "drive_c" / "windows" / "system32" / name


@needs_wine
@pytest.mark.parametrize("name", ["50%off", "%", "100%", "%PATH%"])
def test_a_percent_sign_in_the_path_is_named(tmp_path: Path, prefix: dict[str, str], name: str) -> None:
    windows = Windows(tmp_path, prefix, name)
    windows.finds_python()
    code, said = windows.run()
    assert (code, windows.made) == (1, [])
    assert "contains a percent sign" in said
    assert "RAN" not in said


@needs_wine
def test_a_path_too_long_for_windows_is_refused_unless_windows_allows_it(
    tmp_path: Path, prefix: dict[str, str]
) -> None:
    windows = Windows(tmp_path, prefix, "a" * 140)
    windows.finds_python()
    code, said = windows.run()
    assert (code, windows.made) == (1, [])
    assert "would exceed the 260 characters" in said
    key = r"HKLM\SYSTEM\CurrentControlSet\Control\FileSystem"
    change = ["wine", "reg", "add", key, "/v", "LongPathsEnabled", "/t", "REG_DWORD", "/d", "1", "/f"]
    subprocess.run(change, env=prefix, capture_output=True, timeout=180, check=True)
    try:
        code, said = windows.run()
        assert "RAN" in said
    finally:
        change = ["wine", "reg", "delete", key, "/v", "LongPathsEnabled", "/f"]
        subprocess.run(change, env=prefix, capture_output=True, timeout=180, check=True)


@needs_wine
def test_where_nothing_may_be_installed_nothing_is_fetched(tmp_path: Path, prefix: dict[str, str]) -> None:
    windows = Windows(tmp_path, prefix)
    windows.finds_python()
    code, said = windows.run(WEBUI_NEVER_INSTALL="yes")
    assert (code, windows.made) == (1, [])
    assert "WEBUI_NEVER_INSTALL is set" in said
