"""Starts of the installer in separate processes, with injected faults (faulty.py), and how they end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = "THE PAGE RUNS"
STEPS = r"\[\d/5\]"


class Machine:
    """A project folder, its faults, and starts of it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.faults = folder / "project", folder / "faults"
        for each in (self.root, self.faults):
            each.mkdir()
        (self.root / "server.py").touch()
        (self.root / "requirements-torch.txt").touch()
        (self.root / "requirements-exllamav2.txt").touch()
        self.require("gradio==1.0", "llama-cpp-python==9")

    def require(self, *lines: str) -> None:
        (self.root / "requirements.txt").write_text("\n".join([*lines, ""]))

    def fault(self, *faults: str) -> None:
        """Set faults such as "packages:network"; without arguments, remove all."""
        for path in self.faults.iterdir():
            path.unlink()
        for name, _, what in (each.partition(":") for each in faults):
            (self.faults / name).write_text(what)

    def environ(self, **more: str) -> dict[str, str]:
        folder = self.root.parent
        return {
            "PATH": os.environ["PATH"], "HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache"),
            "GPU_CHOICE": "N", "CC": "cc", **more,
        }  # fmt: skip

    def start(self, *arguments: str, **more: str) -> Outcome:
        command = [sys.executable, str(HERE / "faulty.py"), str(self.root), *arguments]
        ran = subprocess.run(
            command, env=self.environ(**more), cwd="/", capture_output=True, text=True, errors="replace", timeout=900,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Outcome(ran.returncode, ran.stdout, ran.stderr)

    @property
    def state(self) -> dict[str, object]:
        found = json.loads((self.root / "installer_files" / "state.json").read_text())
        assert isinstance(found, dict)
        return found

    def remember(self, **changes: object) -> None:
        """Change what the last installation has stored in its state."""
        (self.root / "installer_files" / "state.json").write_text(json.dumps(self.state | changes))

    @property
    def made_from(self) -> str:
        return (self.root / "installer_files" / "env" / "bin" / "made-from").read_text()


class Outcome:
    """How a start ended; only created if it ended in an allowed way."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err, self.all = code, out, err, out + err
        assert "Traceback" not in self.all, self.all
        self.killed = code == -9
        self.runs = code == 0 and PAGE in out
        self.installs = bool(re.search(STEPS, out))
        if code and not self.killed:
            last = err.strip().splitlines()[-1]
            assert re.search(r"[.)]$|/install\.log$", last), f"this is no sentence: {last}"
            assert PAGE not in out


def copied(installed: Path, folder: Path) -> Machine:
    """A finished installation in its own folder."""
    shutil.copytree(installed, folder)
    for name in ("python", "project/installer_files/env/bin/python"):
        path = folder / name
        path.write_text(path.read_text().replace(str(installed), str(folder)))
    machine = Machine.__new__(Machine)
    machine.root, machine.faults = folder / "project", folder / "faults"
    machine.remember(root=str(machine.root))
    return machine
