"""Updates the project's own files with git. It must not know what an installation is made of."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from installer.errors import InstallStopped

#: Files of the project that are there for the user to change: of two versions, the user's stays.
USERS_FILES = (
    *("CMD_FLAGS.txt", "presets/", "characters/", "instruction-templates/", "grammars/", "banned-strings/", "prompts/"),
    *("training/datasets/", "training/formats/", "models/config.yaml"),
)


def update_project(root: Path) -> bool:
    """Fetch the newest version of the current branch; returns whether any file changed. Raises: InstallStopped.

    The user's own changes to the project's files stay: git stashes them and applies them again. Where both have changed
    the same lines, the user's version of presets, flags and so on stays, and the new version of the program itself
    replaces it. The user's files (models, chats, settings) are not under git and are not touched.
    """
    if not (root / ".git").exists():
        raise InstallStopped(
            "This folder was not created by git clone, so it cannot update itself. Download the latest version "
            "and unpack it over this folder, then start again: models, chats and settings are kept."
        )
    if not shutil.which("git"):
        raise InstallStopped("The update requires git, which is not installed. Install it, then try again.")
    before = _git(root, "rev-parse", "HEAD")
    _settle_conflicts(root)  # of an earlier pull
    print("Downloading the latest version ...", flush=True)
    _git(root, "pull", "--ff-only", "--autostash", "--quiet")
    mine, replaced = _settle_conflicts(root)
    if mine:
        print(f"Changed here and in the new version, yours is kept: {', '.join(mine)}", flush=True)
    if replaced:
        print(
            f"Changed here and in the new version, which is used: {', '.join(replaced)}. Your changes are kept by git "
            '("git stash show -p").',
            flush=True,
        )
    elif mine:
        _git(root, "stash", "drop", "--quiet")  # all of it was applied
    after = _git(root, "rev-parse", "HEAD")
    print(
        "This is already the latest version." if before == after else f"Updated from {before[:9]} to {after[:9]}.",
        flush=True,
    )
    return before != after


def _settle_conflicts(root: Path) -> tuple[list[str], list[str]]:
    """Replace files with conflict markers by one of their versions: the files of which the user's stays, and those that
    are replaced by the project's.
    """
    listed = _git(root, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")
    names = [name for name in listed if name]
    mine = [name for name in names if name.startswith(USERS_FILES)]
    for name in names:
        try:
            _git(root, "checkout", "--theirs" if name in mine else "--ours", "--", name)  # theirs: what was stashed
        except InstallStopped:  # this version has no such file
            (root / name).unlink(missing_ok=True)
    if names:
        _git(root, "reset", "--quiet")
    return mine, [name for name in names if name not in mine]


def current_commit(root: Path) -> str:
    """The commit that is checked out; "" if git does not know."""
    if not (root / ".git").exists() or not shutil.which("git"):
        return ""
    with contextlib.suppress(InstallStopped, OSError):
        return _git(root, "rev-parse", "HEAD")
    return ""


def script_name(what: str, root: Path | None = None) -> str:
    """The script's name on this system: "start" or "update".

    With `root`: the command that creates the environment again; an installation that did not come from git can only be
    repaired.
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
            todo = "The folder belongs to another account: run the update as that account"
        raise InstallStopped(f"git failed ({said}). {todo}; nothing was changed.")
    return ran.stdout.strip()
