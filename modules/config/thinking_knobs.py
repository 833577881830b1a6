"""The knobs of a model's reasoning: whether it thinks, and how much.

Declared once: settings.yaml has their start values, a reply and a chat have their own, and instruction templates read
them as variables. This module must not know any of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from loaders.knobs import Knobs, knob


class ThinkingKnobs(Knobs):
    """The alias of each is the variable of an instruction template that it sets, if the template has it; the original
    writes it so, too.
    """

    thinking: bool = knob(
        True, group="switches", label="Enable thinking", aliases=("enable_thinking",),
        help="The model reasons before it answers.",
    )  # fmt: skip
    effort: Literal["", "low", "medium", "high"] = knob(
        "", group="switches", label="Reasoning effort", aliases=("reasoning_effort",),
        help="Higher values take longer.",
    )  # fmt: skip


#: Each with the variable that it sets.
SWITCHES: Mapping[str, str] = {name: each.aliases[0] for name, each in ThinkingKnobs.knobs().items()}
