"""All paths of an installation, from the project's folder. It creates and reads nothing, and imports nothing of
ours.
"""

from __future__ import annotations

import os
from pathlib import Path


class Layout:
    """All paths of an installation, from the project's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requirements = root / "requirements.txt"
        self.files = root / "installer_files"
        self.env = self.files / "env"
        self.python = self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.tmp = self.files / "tmp"
        self.log = self.files / "install.log"  # output of hidden commands since the last installation began
        self.state = self.files / "state.json"
        self.last = self.files / "env.last"  # the previous environment
        self.last_state = self.files / "state.last.json"
        self.older = self.files / "env.older"  # the one before that, until an update is finished
        self.older_state = self.files / "state.older.json"
        self.between = self.files / "env.between"  # while the two are swapped
        self.between_state = self.files / "state.between.json"
        self.part = self.files / "env.part"  # the environment before an in-place change
        self.part_state = self.files / "state.part.json"
        self.attempt = self.files / "env.attempt"  # the same for an optional step

    @property
    def site_packages(self) -> Path:
        return next(self.env.glob("lib/python3*/site-packages"), self.env / "Lib" / "site-packages")
