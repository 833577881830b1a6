"""The processor's name, and a fingerprint that identifies what was compiled for it.

It must not know what is compiled.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
from pathlib import Path

#: Instruction sets that a compiler uses if present; other CPU flags change with the kernel and do not matter here.
_INSTRUCTIONS = re.compile(r"^(sse|ssse|avx|amx|fma|f16c|bmi|asimd|sve|sme|neon|fp16|i8mm|bf16|dotprod|v[sx]x|rvv)")


def cpu_name() -> str:
    """A readable name, such as "AMD EPYC 9354"."""
    return _field("model name") or _mac("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def cpu_fingerprint() -> str:
    """Equal for processors with the same instruction sets."""
    words = (_field("flags") or _field("Features") or _mac("machdep.cpu.features") or platform.processor()).lower()
    instructions = sorted({word for word in words.split() if _INSTRUCTIONS.match(word)})
    text = " ".join([platform.machine(), *(instructions or [cpu_name()])])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _field(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _mac(key: str) -> str:
    if platform.system() != "Darwin":
        return ""
    command = ["sysctl", "-n", key]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
