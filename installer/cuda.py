"""Which CUDA runs with which driver and on which card. Facts: it asks nothing and starts nothing.

A package holds code for cards of some compute capabilities, and at times PTX, which the driver translates for newer
cards. Code runs with any driver of its CUDA's first number ("minor version compatibility"), PTX only with a driver of
that very version or newer. Versions are of NVIDIA's release notes, for Linux and for Windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from installer.nvidia import Card, written

#: The oldest driver for code of a CUDA, by its first number: (Linux, Windows).
CODE: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {
    11: ((450, 80), (452, 39)),
    12: ((525, 60), (528, 33)),
    13: ((580, 65), (580, 65)),
}
#: The oldest driver that translates the PTX of a CUDA.
PTX: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "12.1": ((530, 30), (531, 14)),
    "12.4": ((550, 54), (551, 61)),
    "12.5": ((555, 42), (555, 85)),
    "13.0": ((580, 65), (580, 65)),
}


@dataclass(frozen=True)
class Code:
    """What a package was compiled for: its CUDA, the oldest and the newest compute capability, whether PTX is in it.

    `driver`: an oldest driver of its own, where it wants a newer one than its CUDA.
    """

    cuda: str
    oldest: tuple[int, int]
    newest: tuple[int, int]
    ptx: bool = False
    driver: tuple[tuple[int, int], tuple[int, int]] | None = None

    def needs(self, *, windows: bool) -> tuple[int, int]:
        """The oldest driver that runs it."""
        return (self.driver or CODE[int(self.cuda.partition(".")[0])])[windows]

    def problem(self, card: Card, *, windows: bool) -> str:
        """Why it does not run on this card, as a clause; "" where it does. What is not known counts as well."""
        needs = self.needs(windows=windows)
        if card.driver and card.driver < needs:
            return f"it needs NVIDIA's driver {written(needs)} or newer, and this one is {written(card.driver)}"
        if card.capability and card.capability < self.oldest:
            return f"it has no code for the {card.name} (compute capability {written(card.capability)})"
        if card.capability and card.capability[0] > self.newest[0]:  # within a first number newer cards run older code
            if not self.ptx:
                return f"it has no code for the {card.name} (compute capability {written(card.capability)})"
            translates = PTX[self.cuda][windows]
            if card.driver and card.driver < translates:
                return (
                    f"for the {card.name} it needs NVIDIA's driver {written(translates)} or newer, and this one is "
                    f"{written(card.driver)}"
                )
        return ""


def best(cards: Sequence[Card]) -> Card | None:
    """The card that decides where there are several: the newest."""
    return max(cards, key=lambda card: card.capability, default=None)
