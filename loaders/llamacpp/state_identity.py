"""What the state of a sequence depends on, apart from tokens and adapters: the model's file, the context, the library.

A state that was made under another identity is never used. It must not know where states are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SAMPLES, _SAMPLE = 16, 2**16  # pieces of each file that are read, and their bytes


def state_identity(parts: Sequence[Path], context: Mapping[str, Any], library: str) -> str:
    """A text that differs if anything does: `context` are the fields of llama_context_params; `library` is llama.cpp's
    commit. Raises: OSError.
    """
    found = [library, repr(sorted(context.items()))]
    for part in parts:
        about = part.stat()
        found += [part.name, str(about.st_size), str(about.st_mtime_ns), _fingerprint(part, about.st_size)]
    return "\n".join(found)


def _fingerprint(path: Path, size: int) -> str:
    """A hash of samples: a file may be replaced by another one with the same size and time."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(max(size - _SAMPLE, 0) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
