"""What the graphics cards have free, asked of their driver: no engine is imported for it."""

from __future__ import annotations

import shutil
import subprocess


def free_card_memory() -> int | None:
    """Free bytes of all NVIDIA cards together; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
        return sum(int(line) for line in told.split()) * 2**20 or None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
