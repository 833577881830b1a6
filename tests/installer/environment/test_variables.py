"""Environment variables of child processes: pip's settings and CUDA's libraries are passed on, other Pythons are
not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from installer import server
from installer.environment import smoke_test
from installer.environment.variables import OF_PYTHON, clean_environ, uv_settings
from installer.layout import Layout
from installer.runner import Runner
from tests.installer.stage import make_environment


def test_pips_settings_are_told_to_uv() -> None:
    config = "\n".join(
        (
            ":env:.find-links='/opt/wheels /more'",
            "global.find-links='/ignored'",
            "global.index-url='http://ignored/simple'",
            "install.index-url='http://mirror/simple'",
            "wheel.index-url='http://another/command'",
            "global.extra-index-url='\\nfile:///a\\nfile:///b'",
            "global.cert='/etc/ca.crt'",
            "WARNING: a line that is no setting",
        )
    )
    assert uv_settings(config, {"SSL_CERT_FILE": "mine"}) == {
        "UV_DEFAULT_INDEX": "http://mirror/simple",
        "UV_INDEX": "file:///a file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/opt/wheels,/more",
    }
    assert uv_settings("", {}) == {}


def test_other_pythons_do_not_leak_in(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {*OF_PYTHON, "PIP_TARGET", "PIP_ROOT", "UV_PYTHON", "UV_SYSTEM_PYTHON"}
    for name in foreign:
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    environ = clean_environ(layout)
    assert not {*foreign, "LD_LIBRARY_PATH"} & set(environ)
    assert environ["PYTHONNOUSERSITE"] == "1"


@pytest.mark.parametrize("script", ["start_linux.sh", "cmd_linux.sh", "start_windows.bat", "cmd_windows.bat"])
def test_the_scripts_unset_the_same(script: str) -> None:
    text = (Path(__file__).resolve().parents[3] / script).read_text()
    assert " ".join(OF_PYTHON) in text


@pytest.mark.parametrize(("name", "value"), [(name, "/elsewhere") for name in OF_PYTHON if name != "PYTHONOPTIMIZE"])
def test_a_python_that_is_set_elsewhere_starts_nonetheless(tmp_path: Path, name: str, value: str) -> None:
    """The real start script and the real one_click.py, with another Python instead of the environment's."""
    root = Path(__file__).resolve().parents[3]
    (tmp_path / "installer").symlink_to(root / "installer")
    for file in ("start_linux.sh", "one_click.py"):
        shutil.copy(root / file, tmp_path)
    env = tmp_path / "installer_files" / "env"
    env.parent.mkdir()
    env.symlink_to(sys.prefix)
    environ = {**os.environ, name: value, "GPU_CHOICE": "ß", "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(
        ["sh", "start_linux.sh"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.stderr.strip().startswith("GPU_CHOICE is '?', but it must be one of A"), ran.stderr


@pytest.mark.parametrize(
    ("system", "variable", "separator", "made", "first"),
    [
        ("posix", "LD_LIBRARY_PATH", ":", ["cublas/lib", "cuda_runtime/lib"], ["cublas/lib", "cuda_runtime/lib"]),
        ("posix", "LD_LIBRARY_PATH", ":", ["cu13/lib", "cu13/bin"], ["cu13/lib"]),
        ("nt", "PATH", ";", ["cublas/bin", "cuda_runtime/bin", "cublas/lib"], ["cublas/bin", "cuda_runtime/bin"]),
        ("nt", "PATH", ";", ["cu13/bin/x86_64", "cu13/lib/x64"], ["cu13/bin/x86_64", "cu13/bin"]),
        ("nt", "PATH", ";", [], []),
    ],
)
def test_cudas_libraries_come_first(
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    variable: str,
    separator: str,
    made: list[str],
    first: list[str],
) -> None:
    folder = layout.env / ("Lib/site-packages" if system == "nt" else "lib/python3.12/site-packages") / "nvidia"
    folder.mkdir(parents=True)
    for each in made:
        (folder / each).mkdir(parents=True)
    wanted = [str(folder / each) for each in first]
    monkeypatch.setenv(variable, separator.join(["elsewhere", *wanted[:1]]))
    monkeypatch.setattr(os, "pathsep", separator)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        environ = clean_environ(layout)
    assert environ[variable].split(separator) == [*wanted, "elsewhere"], "in front, and once"


def test_what_the_server_and_the_trials_start_inherits_them(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner created before the libraries were installed still passes them on."""
    make_environment(layout)
    runner = Runner(layout)
    (layout.site_packages / "nvidia" / "cublas" / "lib").mkdir(parents=True)
    layout.python.write_text('#!/bin/sh\necho "card: $LD_LIBRARY_PATH"\n')
    (said,) = smoke_test.list_usable_gpus(runner)
    assert said.split(":")[0] == str(layout.site_packages / "nvidia" / "cublas" / "lib")
    assert smoke_test.can_compute(runner)[1].startswith(f"card: {layout.site_packages}")
    assert smoke_test.can_import_program(runner)[1].startswith(f"card: {layout.site_packages}")
    (layout.root / "server.py").touch()
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda path, command, environ: started.append(environ))
    with contextlib.suppress(TypeError, FileNotFoundError, OSError):
        server.launch(layout, [])
    assert started[0]["LD_LIBRARY_PATH"].startswith(str(layout.site_packages / "nvidia"))


def test_a_shell_inside_has_them_too(layout: Layout) -> None:
    make_environment(layout)
    folders = [layout.site_packages / "nvidia" / name / "lib" for name in ("cublas", "cuda_runtime")]
    for folder in folders:
        folder.mkdir(parents=True)
    script = layout.root / "cmd_linux.sh"
    script.write_text((Path(__file__).resolve().parents[3] / "cmd_linux.sh").read_text())
    told = subprocess.run(
        ["sh", script, "sh", "-c", "echo $LD_LIBRARY_PATH"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert set(map(str, folders)) <= set(told.split(":"))
