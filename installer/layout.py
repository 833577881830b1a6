"""Where everything lies, from the project's folder alone. It makes and reads nothing, and imports nothing of ours."""

from __future__ import annotations

import os
from pathlib import Path


class Layout:
    """Where everything lies, from the project's folder alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requirements = root / "requirements.txt"
        self.files = root / "installer_files"
        self.env = self.files / "env"
        self.python = self.env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.tmp = self.files / "tmp"
        self.log = self.files / "install.log"  # all that was said unseen since the last installation began
        self.state = self.files / "state.json"
        self.last = self.files / "env.last"  # the environment before this one
        self.last_state = self.files / "state.last.json"
        self.older = self.files / "env.older"  # the one before that, until an update is done
        self.older_state = self.files / "state.older.json"
        self.between = self.files / "env.between"  # while the two change places
        self.between_state = self.files / "state.between.json"
        self.part = self.files / "env.part"  # the environment as it was, while it is changed in place
        self.part_state = self.files / "state.part.json"
        self.attempt = self.files / "env.attempt"  # the same for a step that may fail

    @property
    def site_packages(self) -> Path:
        return next(self.env.glob("lib/python3*/site-packages"), self.env / "Lib" / "site-packages")
