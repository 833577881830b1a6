"""The error that ends an installation early. Imports nothing."""

from __future__ import annotations


class InstallStopped(Exception):
    """Ends the installation with a sentence for the user that says what happened and what to do. Never a traceback."""
