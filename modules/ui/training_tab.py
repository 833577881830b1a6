"""The Training tab: LoRAs and perplexity. Not built yet."""

from __future__ import annotations

from modules.ui.later import later


def build() -> None:
    """The tab's page."""
    later(
        "Training",
        "Teach a model something new with a LoRA, in three steps: the data, the settings, the run with its curve. And "
        "measure the perplexity of a model on a text of your choice.",
        "This page does not stand yet.",
    )
