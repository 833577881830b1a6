"""The memory that the C library keeps for itself after it was freed. Knows no loader."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def trim_heap() -> None:
    """Return freed memory to the system: the C library would keep it, and every load would leave some behind."""
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
