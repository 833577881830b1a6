"""The Chat tab's components by name: the outputs of its actions, and the inputs of a reply's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from modules.chat.reply_settings import ReplySettings
from modules.ui.chat.view import ChatRef
from modules.ui.chat.window_state import chat_scope, fitting_mode
from modules.ui.parameters.knob_controls import params_from_controls
from modules.ui.parts.events import Values


def visibility(visible: bool, *, kept: bool = False) -> Any:
    """Show or hide a component. `kept`: it stays in the page invisibly, which is faster to show again."""
    return gr.update(visible=visible or ("hidden" if kept else False))


@dataclass(frozen=True, eq=False)
class ChatScreen:
    """The components that show a chat. `returned` passes an unused text to the browser, which puts it into the input
    box unless something was typed meanwhile.
    """

    window: Any  # WindowState
    chat: Any  # ChatRef
    kept: Any  # the id of the open chat, in the browser
    title: Any
    welcome: Any
    older: Any
    history: Any
    tail: Any
    facts: Any
    actions: Any
    regenerate: Any
    continue_: Any
    send: Any
    stop: Any
    chats: Any
    others: Any
    mode: Any
    character: Any
    model: Any
    banned: Any
    own_what: Any
    own_system: Any
    own_reset: Any
    own_thinking: Any  # the menus of the switches, by the names of their knobs
    own_effort: Any
    own_notice: Any
    own_notice_text: Any
    own_templates: Any
    earlier: Any
    later: Any
    who: Any
    show_prompt: Any
    input: Any
    returned: Any
    notice: Any
    notice_row: Any

    @property
    def outputs(self) -> list[Any]:
        """All possible outputs of an action. What grows during a reply comes first: see PageBlocks."""
        others = [getattr(self, field.name) for field in fields(self) if field.name not in ("window", "tail")]
        return [self.tail, *others]


@dataclass(frozen=True, eq=False)
class ReplyControls:
    """The components that contain a reply's settings."""

    mode: Any
    character: Any
    your_name: Any
    your_bio: Any
    start_with: Any
    system: Any
    thinking: Any
    effort: Any
    instruction_template: Any
    chat_template: Any
    command: Any
    knobs: Sequence[Any]

    @property
    def inputs(self) -> set[Any]:
        """All of them, as an event's inputs."""
        named = {getattr(self, field.name) for field in fields(self) if field.name != "knobs"}
        return named | set(self.knobs)

    def read(self, values: Values, chat: ChatRef, user: str) -> ReplySettings:
        """The settings of a reply. The chat's own mode overrides the controls.

        `user`: the user's name if the field for it is empty. Raises: InvalidInput.
        """
        kind, _, belongs = chat_scope(chat).partition("/")
        return ReplySettings(
            mode=fitting_mode(values[self.mode], chat),
            character=belongs if kind == "chat" else values[self.character] or "Assistant",
            params=params_from_controls([values[knob] for knob in self.knobs]),
            name1=(values[self.your_name] or "").strip() or user,
            user_bio=values[self.your_bio] or "",
            start_with=values[self.start_with] or "",
            custom_system_message=values[self.system] or "",
            revision=chat.revision,
            instruction_template=values[self.instruction_template] or "",
            chat_template=values[self.chat_template] or "",
            command=values[self.command] or "",
            thinking=bool(values[self.thinking]),
            effort=values[self.effort] or "",
        )
