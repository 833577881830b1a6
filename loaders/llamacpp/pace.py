"""How many prompt tokens one step processes, so that nobody waits long for the next one. It knows of no engine."""

from __future__ import annotations

#: A prompt is cut so that one step takes about this long, in seconds: alone, and while others are being answered.
_STEP_ALONE, _STEP_SHARED = 0.3, 0.1
_SMALLEST_PIECE = 32
_FIRST_PIECE = 128  # while no speed is known


class PromptPace:
    """Measures the speed of prompts and chooses the size of their pieces, at most `largest` tokens."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._speed = 0.0  # tokens per second of recent pieces; 0 until measured

    def piece(self, *, shared: bool) -> int:
        """Tokens of the next step's piece; `shared`: others are being answered meanwhile."""
        if not self._speed:
            return min(self._largest, _FIRST_PIECE)
        seconds = _STEP_SHARED if shared else _STEP_ALONE
        return max(min(_SMALLEST_PIECE, self._largest), min(self._largest, int(self._speed * seconds)))

    def note(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long."""
        if tokens >= _SMALLEST_PIECE and seconds > 0:
            speed = tokens / seconds
            self._speed = speed if not self._speed else 0.7 * self._speed + 0.3 * speed
