"""The right side of the Chat tab: how the reply is to be made, and what can be done with the text in the box.

Its values belong to this browser. It must not know what they do to a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from modules.app import App
from modules.ui import chat_styles
from modules.ui.events import on
from modules.ui.pictures import face_style

_EFFORTS = (("as the template says", ""), ("low", "low"), ("medium", "medium"), ("high", "high"))
_NO_THINKING = "The template of this model has no switch for it."
_NO_EFFORT = "The template of this model does not ask for it."
#: What a browser keeps of the controls, in the order in which they are restored.
_KEPT = ("start", "system", "name", "style")
_STYLE = "(name) => { document.body.dataset.chatStyle = name; }"
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
            self.style = gr.Dropdown(
                chat_styles.choices(), value=chat_styles.known(settings.chat_style), label="Chat style",
                elem_id="chat-style", filterable=False,
            )  # fmt: skip
            self.start_with = gr.Textbox(
                settings.start_with, label="Start reply with", placeholder="Sure thing!", elem_id="start-with",
                info="The reply begins with these words.",
            )  # fmt: skip
            self.system = gr.Textbox(
                settings.custom_system_message, label="Custom system message", lines=3, elem_id="system-message",
                info="Stands before the conversation in instruct mode. Empty: what the template says.",
            )  # fmt: skip
            self.thinking = gr.Checkbox(
                True, label="Think first", elem_id="thinking", interactive=False, info=_NO_THINKING
            )
            self.effort = gr.Dropdown(
                list(_EFFORTS), value="", label="How hard it thinks", elem_id="effort", interactive=False,
                info=_NO_EFFORT,
            )  # fmt: skip
            self.your_name = gr.Textbox(settings.name1, label="Your name", max_lines=1, elem_id="your-name")
            with gr.Row(elem_classes="actions"):
                self._paint = gr.UploadButton(
                    "Your picture", file_types=["image"], type="filepath", size="sm", elem_id="your-picture"
                )
                self._unpaint = gr.Button("No picture", size="sm", elem_id="your-picture-remove")
            self._face = gr.HTML("", elem_id="your-face")
            gr.HTML("<h3>With the text in the box</h3>")
            self.impersonate = gr.Button("Impersonate", elem_id="impersonate", size="sm")
            self.replace = gr.Button("Replace last reply", elem_id="replace-last", size="sm")
            self.dummy_message = gr.Button("Send dummy message", elem_id="dummy-message", size="sm")
            self.dummy_reply = gr.Button("Send dummy reply", elem_id="dummy-reply", size="sm")

    @property
    def given(self) -> list[Any]:
        """Mode, character, your name, start of the reply, system message, whether to think, how hard."""
        return [*self.scope, self.start_with, self.system, self.thinking, self.effort]

    @property
    def scope(self) -> list[Any]:
        """Mode, character, your name: what a new chat is made from."""
        return [self.mode, self.character, self.your_name]

    def wire(self, page: gr.Blocks, template: gr.Textbox, model_changed: Any) -> None:
        """Keep the texts in the browser, and show the characters that are there."""
        own = [self.start_with, self.system, self.your_name, self.style]
        on([each.change for each in own], lambda *values: dict(zip(_KEPT, values, strict=True)), own,
           [self._kept], latest=True)  # fmt: skip
        on(page.load, self._restore, [self._kept, self.character], [*own, self.character])
        on([page.load, self.style.change], None, [self.style], js=_STYLE)
        on([page.load, self.your_name.change], self._dressed, [self.your_name], [self._face], latest=True)
        on(self._paint.upload, self._painted, [self._paint, self.your_name], [self._face])
        on(self._unpaint.click, lambda name: self._painted(None, name), [self.your_name], [self._face])
        on([page.load, model_changed, template.change], self._switches, [template], [self.thinking, self.effort],
           latest=True)  # fmt: skip
        on(self.close.click, None, js="() => { Page.toggleControls(false); }")

    def _switches(self, template: str) -> list[Any]:
        """The switches that the template in use knows; the others are grey, and say why."""
        templates, model = self._app.templates, self._app.models.loaded
        text = template.strip() or (templates.detect(model)[0] if model else "")
        known = templates.switches(text)
        thinks, hard = ("enable_thinking" in known), ("reasoning_effort" in known)
        return [
            gr.update(interactive=thinks, info="Before it answers; the template knows it." if thinks else _NO_THINKING),
            gr.update(interactive=hard, info="More takes longer." if hard else _NO_EFFORT),
        ]

    def _restore(self, kept: Mapping[str, Any], character: str) -> list[Any]:
        settings = self._app.settings
        names = self._app.characters.names()
        start = [settings.start_with, settings.custom_system_message, settings.name1, settings.chat_style]
        values = {**dict(zip(_KEPT, start, strict=True)), **(kept or {})}
        return [
            *(values[name] for name in _KEPT[:3]),
            chat_styles.known(values["style"]),
            gr.update(choices=names, value=character if character in names else names[0]),
        ]

    def _dressed(self, name: str) -> str:
        return face_style("your", (name or "").strip() or self._app.settings.name1, self._app.person.picture)

    def _painted(self, path: str | None, name: str) -> str:
        self._app.person.set_picture(Path(path).read_bytes() if path else None)
        return self._dressed(name)
