"""The lock as on Windows: a second start waits until the first releases it."""

from __future__ import annotations

import pytest

from installer.lock import lock_on_windows


class Windows:
    """msvcrt whose lock another process lets go after some tries."""

    LK_NBLCK = 2

    def __init__(self, tries: int) -> None:
        self.tries = tries
        self.asked: list[tuple[int, int, int]] = []

    def locking(self, number: int, mode: int, count: int) -> None:
        self.asked.append((number, mode, count))
        if len(self.asked) <= self.tries:
            raise OSError(13, "Permission denied")


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_it_waits_and_says_so_once(tries: int, capsys: pytest.CaptureFixture[str]) -> None:
    windows, slept = Windows(tries), []
    lock_on_windows(7, windows, slept.append)
    assert windows.asked == [(7, 2, 1)] * (tries + 1)
    assert len(slept) == tries
    assert capsys.readouterr().out.count("waiting for it") == bool(tries)
