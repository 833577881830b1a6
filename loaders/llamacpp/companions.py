"""Files that are published beside a GGUF model and are no models: image encoders and importance matrices.

Only the name is looked at: a repository's list of files has nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

#: The image encoder (mmproj) as a word of the name.
_ENCODER = re.compile(r"(?:^|[-_.])mmproj(?:[-_.]|$)", re.IGNORECASE)
#: The importance matrix: its name begins or ends so. Of a model quantized with one ("x-imatrix-Q4_K_M"), it does not.
_MATRIX = re.compile(r"^imatrix(?:[-_.]|$)|[-_.]imatrix$", re.IGNORECASE)
#: Quantizations that are made with a matrix; of one that has been computed from a model, the name may tell that
#: model's: F16, Q8_0.
_MADE_WITH_ONE = re.compile(r"(?:^|[-_.])(?:IQ\d\w*|Q[2-6]_\w+|TQ\d_\d)(?=[-_.]|$)", re.IGNORECASE)
_ENDINGS = re.compile(r"(?:\.(?:gguf|gguf_file|dat|bin|at_\d+))+$|-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


def is_companion(name: str) -> bool:
    """Whether a file with this name (or path) belongs to a model and is none by itself."""
    file = name.rpartition("/")[2]
    if file.lower().endswith(".imatrix"):
        return True
    stem = _ENDINGS.sub("", file)
    if stem == file:
        return False
    if _ENCODER.search(stem):
        return True
    return bool(_MATRIX.search(stem)) and not _MADE_WITH_ONE.search(stem)


def models_in(folder: Path) -> list[Path]:
    """The GGUF models that lie directly in a folder, by name."""
    return [each for each in sorted(folder.glob("*.gguf")) if not is_companion(each.name)]
