"""How an installation ends early. Imports nothing."""

from __future__ import annotations


class Stop(Exception):
    """Ends the installation with a sentence for the user: what happened, and what to do. Never a traceback."""
