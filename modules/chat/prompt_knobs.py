"""The knobs of a reply that shape its prompt: whether and how much the model reasons, and the templates.

Declared once: the page's controls, a reply's settings, and what a chat keeps of its own are made from it. It must not
know how a prompt is built.
"""

from __future__ import annotations

from loaders.knobs import knob
from modules.config.thinking_knobs import ThinkingKnobs


class PromptKnobs(ThinkingKnobs):
    """Empty templates mean the usual ones: the instruction template that fits the model, and the built-in others."""

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


TEMPLATES = tuple(name for name, each in PromptKnobs.knobs().items() if each.group == "templates")
