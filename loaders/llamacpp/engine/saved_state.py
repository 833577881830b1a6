"""A copy of a sequence, and what it says of itself. Knows nothing of llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class SavedState:
    """The contents of a sequence. `first`: the position from which all layers are included. `label`: whose it is.
    `lasting`: it may be kept on disk.
    """

    ids: tuple[int, ...]
    state: npt.NDArray[np.uint8]
    first: int
    label: str = ""
    lasting: bool = True
    from_disk: bool = False
