"""`python -m installer.make_portable [FOLDER]`: packs a finished installation into an archive to unpack and start.

The archive holds the program, a complete Python, the packages of requirements.txt (no torch) and the demo model if it
is in models/. It starts in any folder, without a network. For Linux and macOS; the Python must be one that finds its
library relative to itself, as the installer's own and pyenv's do (Debian's does not). It must not know how anything is
installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from installer.environment.environment import installed_names
from installer.environment.plan import ANYWHERE
from installer.errors import InstallStopped
from installer.layout import Layout
from installer.make_lock import package_names
from installer.state import read_state

#: Parts of Python's library that nothing here imports.
_LEFT_OUT = (
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "site-packages",
    "config-*",
    "__pycache__",
)
#: Imports what the program needs, and prints the paths of Python's library in use (Linux).
_IMPORTS = """
import one_click, gradio, llama_cpp, llguidance, pathlib
maps = pathlib.Path("/proc/self/maps")
lines = maps.read_text().splitlines() if maps.exists() else []
print(*{line.split(maxsplit=5)[5] for line in lines if "/libpython" in line}, sep="\\n")
"""
#: What is not part of the program for a user.
_NOT_SHIPPED = ("tests/", "bench/", ".ci/", ".github/", ".gitignore", ".gitattributes", "requirements-dev", "run_tests")


def make_portable(root: Path, folder: Path) -> Path:
    """Write the archive into `folder` and return its path. Raises: InstallStopped."""
    layout = Layout(root)
    state = read_state(layout)
    if os.name == "nt":
        raise InstallStopped("Portable archives can only be made on Linux and macOS.")
    if not state.get("complete") or not layout.python.exists():
        raise InstallStopped("Install the program first: LAUNCH_AFTER_INSTALL=no ./start_linux.sh")
    name = f"text-generation-webui-{_version(root)}-{platform.system().lower()}-{platform.machine()}"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name}.tar.gz"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / name
        for each in _program(root):
            target = made / each
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / each, target)
        _copy_python(layout, made / "installer_files" / "env")
        kept = {**state, "root": ANYWHERE, "packages": installed_names(Layout(made)), "torch": False}
        (made / "installer_files" / "state.json").write_text(json.dumps(kept, indent=2), "utf-8")
        _try(made)
        part = archive.with_suffix(".part")
        with tarfile.open(part, "w:gz", compresslevel=6) as file:
            file.add(made, name)
        part.replace(archive)
    return archive


def _program(root: Path) -> Iterator[str]:
    """The program's files, and the demo model if it is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise InstallStopped("This folder was not created by git clone; only a clone can be packed.")
    yield from (name for name in listed.stdout.split("\0") if name and not name.startswith(_NOT_SHIPPED))
    yield from (each.relative_to(root).as_posix() for each in (root / "models").glob("SmolLM2-135M-Instruct*.gguf"))


def _copy_python(layout: Layout, target: Path) -> None:
    """A complete Python with the required packages."""
    asked = "import sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('stdlib'), sep='\\n')"
    said = subprocess.run([layout.python, "-I", "-c", asked], capture_output=True, text=True, check=True).stdout
    base, library = said.splitlines()
    stdlib = Path(library)
    if not stdlib.is_relative_to(base):
        raise InstallStopped(f"The Python in {base} cannot be moved. Install with another one, such as pyenv's.")
    (target / "bin").mkdir(parents=True)
    program = target / "bin" / stdlib.name
    shutil.copy2(Path(base) / "bin" / stdlib.name, program)
    _find_library_beside(program, Path(base) / "lib")
    for link in ("python", "python3"):
        (target / "bin" / link).symlink_to(stdlib.name)
    shutil.copytree(stdlib, target / "lib" / stdlib.name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for shared in Path(base, "lib").glob("libpython*.so*"):
        shutil.copy2(shared, target / "lib" / shared.name, follow_symlinks=False)
    packages = target / "lib" / stdlib.name / "site-packages"
    packages.mkdir()
    for each in _required(layout):
        _copy_package(each, layout.site_packages, packages)
    _check_llama(layout, packages)


def _find_library_beside(program: Path, before: Path) -> None:
    """Let a Linux program that names the folder of its library find it relative to itself (RUNPATH, see ld.so(8))."""
    named, beside = os.fsencode(before) + b"\0", b"$ORIGIN/../lib"
    if len(named) > len(beside):
        program.write_bytes(program.read_bytes().replace(named, beside.ljust(len(named), b"\0")))


def _required(layout: Layout) -> list[Distribution]:
    """The installed packages that requirements.txt names, and pip, which installs what extensions need."""
    wanted = {_plain(name) for name in package_names(layout.requirements.read_text("utf-8"))} | {"pip"}
    found = distributions(path=[str(layout.site_packages)])
    return [each for each in found if _plain(each.name) in wanted]


def _copy_package(package: Distribution, source: Path, target: Path) -> None:
    for file in package.files or ():
        inside = Path(os.path.normpath(source / file))
        if inside.is_relative_to(source) and inside.is_file() and inside.suffix != ".pyc":
            place = target / inside.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(inside, place)


def _check_llama(layout: Layout, packages: Path) -> None:
    """llama.cpp's libraries must be in its package. Raises: InstallStopped."""
    if (layout.files / "llama").is_dir():
        raise InstallStopped("This installation uses llama.cpp's release builds, which cannot be packed yet.")
    if not any(packages.glob("llama_cpp/lib/*llama*")):
        raise InstallStopped("llama.cpp is missing from the environment. Run ./start_linux.sh --repair")


def _try(made: Path) -> None:
    """Import everything from where it is now, with nothing from outside. Raises: InstallStopped."""
    python = made / "installer_files" / "env" / "bin" / "python"
    tried = subprocess.run(
        [python, "-c", _IMPORTS],
        cwd=made, capture_output=True, text=True, env={"HOME": str(made), "PATH": "/usr/bin:/bin"}, check=False,
    )  # fmt: skip
    if tried.returncode:
        raise InstallStopped(f"The packed Python does not run: {tried.stderr.strip().splitlines()[-1:]}")
    if outside := [path for path in tried.stdout.splitlines() if not Path(path).is_relative_to(made.resolve())]:
        raise InstallStopped(f"The packed Python uses {outside[0]}, which other computers do not have.")
    for each in made.rglob("__pycache__"):
        shutil.rmtree(each)


def _version(root: Path) -> str:
    found = re.search(r'^version = "([^"]+)"', (root / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "0"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: Sequence[str]) -> int:
    """Make the archive and print its path and size."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(prog="python3 -m installer.make_portable", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=root / "dist", help="where to; dist/ if not given")
    try:
        archive = make_portable(root, parser.parse_args(arguments).folder.resolve())
    except InstallStopped as sentence:
        print(sentence, file=sys.stderr)
        return 1
    print(f"{archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
