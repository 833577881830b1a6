"""Conversations: what they are, where they are kept, how they become a prompt, and how a reply comes into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What scripts for the original program use of its module of this name."""
        from modules.extensions.original import beside

        return beside(__name__, name)
