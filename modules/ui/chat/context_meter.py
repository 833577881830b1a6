"""How much of the model's context the chat takes with the text in the message box: a bar and a number beside it.

The earlier messages are counted by the last reply's own record; only the typed text is counted again. It must not know
how a prompt is built.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.ui.chat.view import ChatRef
from modules.ui.parts.events import on
from modules.ui.texts import tr


class ContextMeter:
    """The meter. The page's script clicks `typed` when typing pauses."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.shown = gr.HTML("", elem_id="context-meter", padding=False)
        self.typed = gr.Button("", visible="hidden", elem_id="message-typed")

    def wire(self, chat: Any, box: Any) -> None:
        """Connect it: `chat` is the state of the open chat, `box` the message box."""
        on([self.typed.click, chat.change], self._measure, [chat, box], [self.shown], latest=True)

    def _measure(self, chat: ChatRef, typed: str) -> str:
        model = self._app.models.loaded
        if model is None or not chat.id:
            return ""
        try:
            used = chat.tokens + (self._app.generator.session().count(typed) if typed.strip() else 0)
        except UserError:  # the model was unloaded meanwhile
            return ""
        return meter_html(used, model.context_length)


def meter_html(used: int, room: int) -> str:
    """The bar and "812 of 2,048 tokens"; nothing while the chat is empty."""
    if not used or not room:
        return ""
    share = min(100, round(100 * used / room))
    full = " class='full'" if share > 90 else ""
    said = tr("chat.context", n=used, room=room)
    return f"<div{full} title='{tr('chat.context_about')}'><i style='width:{share}%'></i></div><span>{said}</span>"
