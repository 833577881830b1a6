"""The knobs of a reply that shape its prompt: whether and how much the model reasons, and the templates.

Declared once: the page's controls, a reply's settings, and what a chat keeps of its own are made from it. It must not
know how a prompt is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from loaders.knobs import Knobs, knob


class PromptKnobs(Knobs):
    """Empty templates mean the usual ones: the instruction template that fits the model, and the built-in others. The
    alias of a switch is the variable of the instruction template that it sets, if the template has it.
    """

    thinking: bool = knob(
        True, group="switches", label="Enable thinking", aliases=("enable_thinking",),
        help="The model reasons before it answers.",
    )  # fmt: skip
    effort: Literal["", "low", "medium", "high"] = knob(
        "", group="switches", label="Reasoning effort", aliases=("reasoning_effort",),
        help="Higher values take longer.",
    )  # fmt: skip
    instruction_template: str = knob(
        "", lines=14, group="templates", label="Instruction template (Jinja)",
        help="Leave empty to detect the model's template automatically.",
    )  # fmt: skip
    chat_template: str = knob(
        "", lines=5, group="templates", label="Chat template (Jinja)",
        help="For the chat modes. Leave empty for the built-in template.",
    )  # fmt: skip
    command: str = knob(
        "", lines=4, group="templates", label="Command for chat-instruct mode",
        help="<|character|> and <|prompt|> are replaced by the name and the conversation. "
        "Leave empty for the built-in command.",
    )  # fmt: skip


#: The switches, each with the variable of the instruction template that it sets; and the texts.
SWITCHES: Mapping[str, str] = {
    name: each.aliases[0] for name, each in PromptKnobs.knobs().items() if each.group == "switches"
}
TEMPLATES = tuple(name for name, each in PromptKnobs.knobs().items() if each.group == "templates")
