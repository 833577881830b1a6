"""The functions that an extension may have, each declared once: what it gets, what becomes of its answer.

pluggy keeps who implements which, and in what order they are asked. This module runs no script of anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pluggy

#: What becomes of several answers: each changes what the next one gets; the first one counts; there is none.
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
        Hook("setup", (), "call", "Once, after the script was imported and its params were set."),
        Hook("ui", (), "call", "While the page is built: gradio components made here appear in it."),
        Hook("custom_css", (), "call", "CSS for the page, as text."),
        Hook("custom_js", (), "call", "JavaScript for the page, as text."),
        Hook("state_modifier", ("state",), "change", "At the start of a reply: the settings, as a dictionary."),
        Hook("history_modifier", ("history",), "change", "In a chat: {'internal': [[user, bot], ...], 'visible': ...}."),
        Hook(
            "chat_input_modifier", ("text", "visible_text", "state"), "change",
            "In a chat: the new message as the model gets it and as it is shown. Both are returned.",
        ),
        Hook(
            "input_modifier", ("string", "state", "is_chat"), "change",
            "In a chat the new message; elsewhere the whole prompt.",
        ),
        Hook("bot_prefix_modifier", ("string", "state"), "change", "In the chat modes: what the reply begins with."),
        Hook(
            "tokenizer_modifier", ("state", "prompt", "input_ids", "input_embeds"), "change",
            "After encoding: (prompt, input_ids, input_embeds) are returned; input_ids has the shape (1, n).",
        ),
        Hook("custom_tokenized_length", ("prompt",), "first", "How many tokens a prompt has."),
        Hook(
            "logits_processor_modifier", ("processor_list", "input_ids"), "call",
            "Before the first token: what is appended to the list is called with (input_ids, scores) at every token.",
        ),
        Hook(
            "output_modifier", ("string", "state", "is_chat"), "change",
            "The finished reply. In a chat only what is shown changes.",
        ),
        Hook(
            "custom_generate_chat_prompt", ("user_input", "state"), "first",
            "The prompt of a chat, as text. Gets history, _continue, regenerate and impersonate by name.",
        ),
        Hook(
            "custom_generate_reply",
            ("question", "original_question", "seed", "state", "stopping_strings", "is_chat"), "first",
            "The reply, instead of the model: an iterator of the text so far.",
        ),
    )
}  # fmt: skip


@dataclass(slots=True)
class Passing:
    """What goes from one extension to the next: the value, then the other arguments; and what went wrong on the way."""

    value: Any
    others: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Plugins(pluggy.PluginManager):
    """pluggy with these hooks. A plugin's method of a hook's name implements it; it takes one Passing."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        mark = pluggy.HookspecMarker(PROJECT)
        specs = type("Specs", (), {})
        for hook in HOOKS.values():
            setattr(specs, hook.name, staticmethod(mark(_spec(), firstresult=hook.kind == "first")))
        self.add_hookspecs(specs)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> pluggy.HookimplOpts | None:
        """Every function of a hook's name counts; no decorator is asked for."""
        if name not in HOOKS:
            return None
        return {
            "wrapper": False, "hookwrapper": False, "optionalhook": False, "tryfirst": False, "trylast": False,
            "specname": None,
        }  # fmt: skip


def _spec() -> Any:
    def spec(passing: Passing) -> Any:
        """All hooks look alike to pluggy: `Passing` says the rest."""

    return spec
