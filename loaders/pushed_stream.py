"""A stream whose tokens are brought by a thread that exists anyway, so that its reader needs none that waits.

Where tokens arrive from, and who reads them, does not matter here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from loaders.base import TokenStream


@runtime_checkable
class PushedStream(TokenStream, Protocol):
    """A TokenStream that announces its tokens."""

    @property
    def waiting(self) -> bool:
        """Whether `next` returns at once."""
        ...

    def listen(self, wake: Callable[[], None]) -> None:
        """Call this after each arrival, from the thread that brings the tokens, and once now. It must be quick and must
        not raise.
        """
        ...
