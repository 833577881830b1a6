"""The Notebook tab: one text that the model goes on with. Not built yet."""

from __future__ import annotations

from modules.ui.later import later


def build() -> None:
    """The tab's page."""
    later(
        "Notebook",
        "One sheet for you and the model: you write, it goes on in the same text, and you take over again wherever you "
        "like.",
        "This page does not stand yet. To talk to the model, use the Chat tab.",
    )
