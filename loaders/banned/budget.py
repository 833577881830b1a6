"""How much work the regular expressions of one request may cause, so that they cannot delay other replies for long.

Counted in steps and not in seconds: the same request then ends at the same place on every machine. It must not know
how text is searched.
"""

from __future__ import annotations

from errors import InvalidInput

#: Steps that may be saved up, and that each token adds. A step takes about 0.3 us.
MOST_STEPS, STEPS_PER_TOKEN = 300_000, 10_000


class StepBudget:
    """That of one request."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def refill(self) -> None:
        """The next token."""
        self._left = min(self._left + STEPS_PER_TOKEN, MOST_STEPS)

    def spend(self, steps: int) -> None:
        """Raises: InvalidInput if there are not as many left."""
        self._left -= steps
        if self._left < 0:
            raise InvalidInput(
                "banned_strings: searching the reply for the regular expressions takes too long, so it was ended. Use "
                "smaller numbers of repetitions, or fewer expressions."
            )
