"""The Python environment in installer_files/env: create, discard and inspect it. It knows no package but uv."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import NoReturn

from installer.environment.variables import clean_environ
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.runner import Runner, last_line, network_cause

UV = "uv==0.13.9"

#: Creates the commands pip, pip3 and so on, as pip's own installation does.
_SCRIPTS = """import os, sys
from pip._vendor.distlib.scripts import ScriptMaker
maker = ScriptMaker(None, os.path.dirname(sys.executable))
maker.variants = {""}
maker.set_mode = True
for name in ("pip", "pip%d" % sys.version_info[:1], "pip%d.%d" % sys.version_info[:2]):
    maker.make(name + " = pip._internal.cli.main:main")
"""


def make_environment(runner: Runner) -> None:
    """Create a new environment with pip in it. Raises: InstallStopped."""
    layout, pip = runner.layout, bundled_pip()
    shutil.rmtree(layout.env, ignore_errors=True)
    without = ["--without-pip"] if pip else []
    done, said = runner.output(sys.executable, "-I", "-m", "venv", *without, layout.env)
    if not done:
        discard_environment(layout, f"Python's venv could not create {layout.env} ({last_line(said)}).")
    if pip:
        with zipfile.ZipFile(pip) as wheel:
            wheel.extractall(layout.site_packages)
        runner.output(layout.python, "-c", _SCRIPTS)


def is_portable(layout: Layout) -> bool:
    """Whether this runs in a portable archive's environment: a complete Python, which belongs to no other."""
    return Path(sys.prefix) == layout.env and sys.prefix == sys.base_prefix


def refuse_portable(layout: Layout) -> None:
    """A portable archive's environment cannot be created again, because its own Python runs this. Raises:
    InstallStopped.
    """
    if is_portable(layout):
        raise InstallStopped(
            "The environment of a portable archive cannot be created again. Unpack the archive again, into a new "
            "folder or over this one; your models, chats and settings are kept."
        )


def add_uv(runner: Runner) -> None:
    """Install uv. This is also the first test of the network. Raises: InstallStopped."""
    done, said = runner.output(runner.layout.python, "-m", "pip", "install", "--quiet", "--retries", "1", UV)
    if not done:
        discard_environment(
            runner.layout,
            f"The package index is unreachable (pip: {network_cause(said)}). Check the network connection, and "
            "your proxy or mirror if you use one (HTTPS_PROXY, pip config), then start again.",
        )


def bundled_pip() -> Path | None:
    """The pip that is bundled with this Python; None if it is somewhere else.

    Unpacking it is enough and immediate; installing it as venv does takes seconds.
    """
    import ensurepip  # here: a container's Python, which only starts what is installed, comes without it

    bundled = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).with_name("_bundled")
    return next(iter(sorted(Path(bundled).glob("pip-*-py3-none-any.whl"), reverse=True)), None)


def discard_environment(layout: Layout, sentence: str) -> NoReturn:
    """Delete an unfinished environment and say why."""
    for made in (layout.env, layout.tmp):
        shutil.rmtree(made, ignore_errors=True)
    raise InstallStopped(f"{sentence} Nothing was installed.")


def can_import(runner: Runner, modules: str) -> tuple[bool, str]:
    """Whether the modules can be imported as server.py would: (result, last line of output)."""
    done, said = runner.output(runner.layout.python, "-c", f"import {modules}", **clean_environ(runner.layout))
    return done, last_line(said)


def python_version(python: Path) -> str:
    """For example "3.12"; empty for a Python that does not (or no longer) run."""
    if python.parent.parent == Path(sys.prefix):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ran = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def installed_names(layout: Layout) -> list[str]:
    """The names of the installed distributions, without versions, which an extension may have changed."""
    return sorted({path.name.split("-")[0].lower() for path in layout.site_packages.glob("*.dist-info")})
