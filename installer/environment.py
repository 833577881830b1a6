"""The Python environment in installer_files/env: made, taken back, and looked at. It knows no package but uv."""

from __future__ import annotations

import ensurepip
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import NoReturn

from installer.errors import Stop
from installer.layout import Layout
from installer.runner import Runner, cause, last_line
from installer.variables import clean_environ

UV = "uv==0.13.9"

#: Makes the commands pip, pip3 and so on, as pip's own installation does.
_SCRIPTS = """import os, sys
from pip._vendor.distlib.scripts import ScriptMaker
maker = ScriptMaker(None, os.path.dirname(sys.executable))
maker.variants = {""}
maker.set_mode = True
for name in ("pip", "pip%d" % sys.version_info[:1], "pip%d.%d" % sys.version_info[:2]):
    maker.make(name + " = pip._internal.cli.main:main")
"""


def make(runner: Runner) -> None:
    """A new environment with pip and uv in it. Getting uv is also the first look at the network."""
    layout, pip = runner.layout, pip_wheel()
    shutil.rmtree(layout.env, ignore_errors=True)
    without = ["--without-pip"] if pip else []
    done, said = runner.output(sys.executable, "-I", "-m", "venv", *without, layout.env)
    if not done:
        give_up(layout, f"Python's venv could not make {layout.env} ({last_line(said)}).")
    if pip:
        with zipfile.ZipFile(pip) as wheel:
            wheel.extractall(layout.site_packages)
        runner.output(layout.python, "-c", _SCRIPTS)
    done, said = runner.output(layout.python, "-m", "pip", "install", "--quiet", "--retries", "1", UV)
    if not done:
        give_up(
            layout,
            f"The package index cannot be reached (pip: {cause(said)}). Check the network connection, and your "
            "proxy or mirror if you use one (HTTPS_PROXY, pip config), and start again.",
        )


def pip_wheel() -> Path | None:
    """The pip that came with this Python, which its venv would install; None where it lies elsewhere.

    Unpacked it works at once; to let it install itself, as venv does, takes seconds.
    """
    bundled = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).with_name("_bundled")
    return next(iter(sorted(Path(bundled).glob("pip-*-py3-none-any.whl"), reverse=True)), None)


def give_up(layout: Layout, sentence: str) -> NoReturn:
    """Takes back the half-made environment and says why."""
    for made in (layout.env, layout.tmp):
        shutil.rmtree(made, ignore_errors=True)
    raise Stop(f"{sentence} Nothing was installed.")


def loads(runner: Runner, modules: str) -> tuple[bool, str]:
    """Whether the modules can be imported as server.py would: (yes or no, the last thing that was said)."""
    done, said = runner.output(runner.layout.python, "-c", f"import {modules}", **clean_environ(runner.layout))
    return done, last_line(said)


def python_version(python: Path) -> str:
    """For example "3.12", or an empty string for a Python that does not run (any more)."""
    if python.parent.parent == Path(sys.prefix):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ran = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def installed_names(layout: Layout) -> list[str]:
    """The distributions in the environment, without versions: an extension may have changed those."""
    return sorted({path.name.split("-")[0].lower() for path in layout.site_packages.glob("*.dist-info")})
