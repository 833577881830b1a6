"""The right side of the Chat tab: how the reply is to be made, and what can be done with the text in the box.

Its values belong to this browser. It must not know what they do to a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.app import App
from modules.ui.events import on

MODES = ("instruct", "chat-instruct", "chat")


class ChatControls:
    """The controls. `given` is what a turn is made from, besides the knobs."""

    def __init__(self, app: App, kept: gr.BrowserState) -> None:
        settings = app.settings
        self._app = app
        self._kept = kept
        with gr.Column(elem_id="controls"):
            self.close = gr.Button("Close", elem_id="controls-close", size="sm")
            self.mode = gr.Radio(
                list(MODES), value=settings.mode, label="Mode", elem_id="mode",
                info="instruct asks the model as it was trained; chat lets it play a character in a dialogue; "
                "chat-instruct asks it, as it was trained, to play the character.",
            )  # fmt: skip
            self.character = gr.Dropdown(
                app.characters.names(), value=settings.character, label="Character", elem_id="character",
                filterable=True, visible=settings.mode != "instruct",
            )  # fmt: skip
            self.start_with = gr.Textbox(
                settings.start_with, label="Start reply with", placeholder="Sure thing!", elem_id="start-with",
                info="The reply begins with these words.",
            )  # fmt: skip
            self.system = gr.Textbox(
                settings.custom_system_message, label="Custom system message", lines=3, elem_id="system-message",
                info="Stands before the conversation in instruct mode. Empty: what the template says.",
            )  # fmt: skip
            gr.HTML("<h3>With the text in the box</h3>")
            self.impersonate = gr.Button("Impersonate", elem_id="impersonate", size="sm")
            self.replace = gr.Button("Replace last reply", elem_id="replace-last", size="sm")
            self.dummy_message = gr.Button("Send dummy message", elem_id="dummy-message", size="sm")
            self.dummy_reply = gr.Button("Send dummy reply", elem_id="dummy-reply", size="sm")

    @property
    def given(self) -> list[Any]:
        """Mode, character, start of the reply, system message."""
        return [self.mode, self.character, self.start_with, self.system]

    def wire(self, page: gr.Blocks) -> None:
        """Keep the texts in the browser, and show the characters that are there."""
        texts = [self.start_with, self.system]
        on([each.change for each in texts], lambda start, system: {"start": start, "system": system}, texts,
           [self._kept], latest=True)  # fmt: skip
        on(page.load, self._restore, [self._kept, self.character], [*texts, self.character])
        on(self.close.click, None, js="() => { Page.toggleControls(false); }")

    def _restore(self, kept: Mapping[str, Any], character: str) -> list[Any]:
        settings = self._app.settings
        names = self._app.characters.names()
        return [
            kept.get("start", settings.start_with) if kept else settings.start_with,
            kept.get("system", settings.custom_system_message) if kept else settings.custom_system_message,
            gr.update(choices=names, value=character if character in names else names[0]),
        ]
