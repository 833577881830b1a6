"""Which CUDA version runs with which driver and GPU. Facts only: it queries and starts nothing.

A package contains code for GPUs of some compute capabilities, and sometimes PTX, which the driver compiles for newer
GPUs. Code runs with any driver of the same CUDA major version ("minor version compatibility"); PTX needs a driver of
exactly that version or newer. Versions are from NVIDIA's release notes, for Linux and Windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from installer.hardware.nvidia import NvidiaGpu, format_version

#: The oldest driver for code of a CUDA major version: (Linux, Windows).
CODE: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {
    11: ((450, 80), (452, 39)),
    12: ((525, 60), (528, 33)),
    13: ((580, 65), (580, 65)),
}
#: The oldest driver that compiles the PTX of a CUDA version.
PTX: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "12.1": ((530, 30), (531, 14)),
    "12.4": ((550, 54), (551, 61)),
    "12.5": ((555, 42), (555, 85)),
    "13.0": ((580, 65), (580, 65)),
}


@dataclass(frozen=True)
class CudaBuild:
    """What a package was compiled for: CUDA version, oldest and newest compute capability, whether it includes PTX.

    `driver`: a minimum driver of its own, if newer than what its CUDA version needs.
    """

    cuda: str
    oldest: tuple[int, int]
    newest: tuple[int, int]
    ptx: bool = False
    driver: tuple[tuple[int, int], tuple[int, int]] | None = None

    def needs(self, *, windows: bool) -> tuple[int, int]:
        """The oldest driver that runs it."""
        return (self.driver or CODE[int(self.cuda.partition(".")[0])])[windows]

    def problem(self, card: NvidiaGpu, *, windows: bool) -> str:
        """Why it does not run on this GPU, as a clause; "" if it does. Unknown values are accepted."""
        needs = self.needs(windows=windows)
        if card.driver and card.driver < needs:
            return (
                f"it requires NVIDIA driver {format_version(needs)} or newer, but {format_version(card.driver)} "
                "is installed"
            )
        if card.capability and card.capability < self.oldest:
            return f"it has no code for the {card.name} (compute capability {format_version(card.capability)})"
        if card.capability and card.capability[0] > self.newest[0]:  # within a major version, newer GPUs run older code
            if not self.ptx:
                return f"it has no code for the {card.name} (compute capability {format_version(card.capability)})"
            translates = PTX[self.cuda][windows]
            if card.driver and card.driver < translates:
                return (
                    f"for the {card.name} it requires NVIDIA driver {format_version(translates)} or newer, but "
                    f"{format_version(card.driver)} is installed"
                )
        return ""


def newest_card(cards: Sequence[NvidiaGpu]) -> NvidiaGpu | None:
    """The newest GPU: with several, it decides."""
    return max(cards, key=lambda card: card.capability, default=None)
