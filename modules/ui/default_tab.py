"""The Default tab: a prompt on the left, what the model makes of it on the right. Not built yet."""

from __future__ import annotations

from modules.ui.later import later


def build() -> None:
    """The tab's page."""
    later(
        "Default",
        "A prompt on the left, the model's text on the right, with every space and newline kept as you write it. The "
        "answer will be shown raw, as Markdown or as HTML, beside the probabilities of the next token.",
        "This page does not stand yet. To talk to the model, use the Chat tab.",
    )
