"""The project's own files brought up to date, by git. It must not know what an installation is made of."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from installer.errors import Stop


def update(root: Path) -> bool:
    """Fetch the newest version of the branch that is checked out; whether anything is another one now. Raises: Stop.

    The user's own changes of the project's files stay: git puts them aside and back. Their files (models, chats,
    settings) are not under git and are not touched.
    """
    if not (root / ".git").exists():
        raise Stop(
            "This folder did not come from git clone, so it cannot be updated by itself. Download the newest version, "
            "unpack it over this folder, and start again: models, chats and settings stay."
        )
    if not shutil.which("git"):
        raise Stop("git is not installed, and the update needs it. Install it and try again.")
    before = _git(root, "rev-parse", "HEAD")
    print("Fetching the newest version ...", flush=True)
    _git(root, "pull", "--ff-only", "--autostash", "--quiet")
    after = _git(root, "rev-parse", "HEAD")
    print("There is no newer version." if before == after else f"Updated from {before[:9]} to {after[:9]}.", flush=True)
    return before != after


def commit(root: Path) -> str:
    """The commit of the program that is checked out; "" where git does not know."""
    if not (root / ".git").exists() or not shutil.which("git"):
        return ""
    with contextlib.suppress(Stop, OSError):
        return _git(root, "rev-parse", "HEAD")
    return ""


def script(what: str, root: Path | None = None) -> str:
    """The script's name on this system: "start" or "update".

    With `root`: the command that makes the environment anew there; what did not come from git can be repaired only.
    """
    system = {"win32": "windows.bat", "darwin": "macos.sh"}.get(sys.platform, "linux.sh")
    name = f"{'' if os.name == 'nt' else './'}{what}_{system}"
    return f"{name} --repair" if root and not (root / ".git").exists() else name


def _git(root: Path, *command: str) -> str:
    ran = subprocess.run(
        ["git", "-C", str(root), *command], capture_output=True, text=True, errors="replace", check=False
    )
    if ran.returncode:
        lines = (ran.stderr.strip() or ran.stdout.strip() or "no message").splitlines()
        said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1]).strip()
        todo = "Check the network connection, then try again"
        if "dubious ownership" in said:
            todo = "The folder belongs to another account: update it as that one"
        raise Stop(f"git could not do it ({said}). {todo}; nothing was changed.")
    return ran.stdout.strip()
