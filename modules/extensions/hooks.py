"""The functions that an extension may have (hooks), each declared once: its arguments, and the use of its result.

pluggy stores which extension implements which, and their order. This module runs no script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pluggy

#: How several results are combined: each changes what the next one gets; the first one counts; results are ignored.
Kind = Literal["change", "first", "call"]

PROJECT = "text-generation-webui"


@dataclass(frozen=True, slots=True)
class Hook:
    """One function. `arguments` are passed by position, as many as the script's function takes."""

    name: str
    arguments: tuple[str, ...]
    kind: Kind
    help: str


HOOKS: Mapping[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook("setup", (), "call", "Once, after the script is imported and its params are set."),
        Hook("ui", (), "call", "While the page is built; Gradio components created here appear in it."),
        Hook("custom_css", (), "call", "CSS for the page, as text."),
        Hook("custom_js", (), "call", "JavaScript for the page, as text."),
        Hook("state_modifier", ("state",), "change", "At the start of a reply, with the settings as a dictionary."),
        Hook("history_modifier", ("history",), "change", "In a chat, with {'internal': [[user, bot], ...], 'visible': ...}."),
        Hook(
            "chat_input_modifier", ("text", "visible_text", "state"), "change",
            "In a chat, with the new message as sent to the model and as shown. Returns both.",
        ),
        Hook(
            "input_modifier", ("string", "state", "is_chat"), "change",
            "In a chat: the new message; elsewhere: the whole prompt.",
        ),
        Hook("bot_prefix_modifier", ("string", "state"), "change", "In the chat modes: the start of the reply."),
        Hook(
            "tokenizer_modifier", ("state", "prompt", "input_ids", "input_embeds"), "change",
            "After tokenization. Returns (prompt, input_ids, input_embeds); input_ids has the shape (1, n).",
        ),
        Hook("custom_tokenized_length", ("prompt",), "first", "The number of tokens of a prompt."),
        Hook(
            "logits_processor_modifier", ("processor_list", "input_ids"), "call",
            "Before the first token; processors appended to the list are called with (input_ids, scores) for "
            "every token.",
        ),
        Hook(
            "output_modifier", ("string", "state", "is_chat"), "change",
            "The finished reply. In a chat, only the displayed text changes.",
        ),
        Hook(
            "custom_generate_chat_prompt", ("user_input", "state"), "first",
            "The prompt of a chat, as text. Gets history, _continue, regenerate and impersonate as keyword arguments.",
        ),
        Hook(
            "custom_generate_reply",
            ("question", "original_question", "seed", "state", "stopping_strings", "is_chat"), "first",
            "Replaces the model: an iterator of the reply so far.",
        ),
    )
}  # fmt: skip


@dataclass(slots=True)
class HookCall:
    """What is passed from one extension to the next: the value, then the other arguments; and errors on the way."""

    value: Any
    others: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class HookManager(pluggy.PluginManager):
    """pluggy with these hooks. A plugin's method of a hook's name implements it; it takes one HookCall."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        mark = pluggy.HookspecMarker(PROJECT)
        specs = type("Specs", (), {})
        for hook in HOOKS.values():
            setattr(specs, hook.name, staticmethod(mark(_spec(), firstresult=hook.kind == "first")))
        self.add_hookspecs(specs)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> pluggy.HookimplOpts | None:
        """Every function with a hook's name counts; no decorator is needed."""
        if name not in HOOKS:
            return None
        return {
            "wrapper": False, "hookwrapper": False, "optionalhook": False, "tryfirst": False, "trylast": False,
            "specname": None,
        }  # fmt: skip


def _spec() -> Any:
    def spec(passing: HookCall) -> Any:
        """All hooks look the same to pluggy: `HookCall` contains the rest."""

    return spec
