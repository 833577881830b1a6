"""Conversations: their structure, storage, conversion to prompts, and replies in progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What scripts for the original program use of its module of this name."""
        from modules.extensions.compat import package_attribute

        return package_attribute(__name__, name)
