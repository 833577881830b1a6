"""Parameters, Instruction template: what turns a conversation into the prompt; seen at work on a small conversation.

An empty field stands for the template that fits the model. It asks the services for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from errors import NoModelLoaded, UserError
from loaders.base import Model
from modules.app import App
from modules.chat.prompt import COMMAND
from modules.generation.token_view import visible
from modules.ui.events import on, say
from modules.ui.file_menu import FileMenu
from modules.ui.words import escape

_SAMPLE = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Input"},
    {"role": "assistant", "content": "Output"},
    {"role": "user", "content": "Input"},
)


class TemplatePage:
    """The sub-tab. `given` is what a turn takes from it: instruction template, chat template, command."""

    def __init__(self, app: App, kept: gr.BrowserState) -> None:
        self._app = app
        self._kept = kept
        settings = app.settings
        with gr.Row(elem_id="templates"):
            with gr.Column(elem_classes="card"):
                self._fits = gr.HTML("", elem_id="template-fits", padding=False)
                self._menu = FileMenu(app.templates, "template", "template")
                self.instruction = gr.Textbox(
                    "", label="Instruction template (Jinja)", lines=14, max_lines=24,
                    elem_id="template-text", elem_classes="knob knob-str",
                    info="Empty: the one that fits the model.",
                )  # fmt: skip
                with gr.Row(elem_classes="actions"):
                    self._own = gr.Button("Show the model's own", size="sm", elem_id="template-own")
                    self._clear = gr.Button("Use the one that fits", size="sm", elem_id="template-clear")
                    self._keep = gr.Button("Keep for this model", size="sm", elem_id="template-keep")
                with gr.Row(elem_classes="sends"):
                    self.to_default = gr.Button("Send to default", size="sm", elem_id="template-to-default")
                    self.to_notebook = gr.Button("Send to notebook", size="sm", elem_id="template-to-notebook")
                    self.to_negative = gr.Button("Send to negative prompt", size="sm", elem_id="template-to-negative")
            with gr.Column(elem_classes="card"):
                self._seen = gr.HTML("", elem_id="template-seen", padding=False)
                self._chat = gr.Textbox(
                    settings.chat_template_str, label="Chat template (Jinja)", lines=5, max_lines=20,
                    elem_id="chat-template", elem_classes="knob knob-str",
                    info="For the chat modes. Empty: names and lines.",
                )  # fmt: skip
                self._command = gr.Textbox(
                    settings.chat_instruct_command, label="Command for chat-instruct mode", lines=4, max_lines=12,
                    elem_id="chat-command", elem_classes="knob knob-str", placeholder=COMMAND,
                    info="<|character|> and <|prompt|> stand for the name and the dialogue. Empty: the usual one.",
                )  # fmt: skip

    @property
    def given(self) -> list[Any]:
        """What a turn takes from here."""
        return [self.instruction, self._chat, self._command]

    def wire(self, page: gr.Blocks, model_changed: Any) -> None:
        """Connect it."""
        on(page.load, self._restore, [self._kept], self.given)
        on([each.change for each in self.given], lambda *texts: list(texts), self.given, [self._kept], latest=True)
        shown = [self._fits, self._seen]
        on([self.instruction.change, page.load, model_changed], self._look, [self.instruction], shown, latest=True)
        on(self._own.click, lambda: self._fitting(self._app.models.loaded)[0], None, [self.instruction])
        on(self._clear.click, lambda: "", None, [self.instruction])
        on(self._keep.click, self._kept_for_model, [self.instruction], [self.instruction, *shown])
        self._menu.wire(
            page, text=str, texts=[self.instruction], loaded=lambda text, _: text, outputs=[self.instruction]
        )

    def prompt(self, template: str) -> str:
        """The prompt of a conversation that says "Input", for other tabs. Raises: UserError."""
        return self._rendered(template, [{"role": "user", "content": "Input"}], self._app.models.loaded)

    # --- inside ---

    def _restore(self, kept: list[str]) -> list[str]:
        settings = self._app.settings
        return kept if len(kept or ()) == 3 else ["", settings.chat_template_str, settings.chat_instruct_command]

    def _fitting(self, model: Model | None) -> tuple[str, str]:
        if model is None:
            raise NoModelLoaded
        return self._app.templates.detect(model)

    def _kept_for_model(self, template: str) -> list[Any]:
        """The template in the field belongs to this model from now on; with an empty field, none does."""
        name = self._app.models.keep_template(template if template.strip() else "")
        say(f"Kept for {name}." if template.strip() else f"Nothing is kept for {name} any more.")
        return ["", *self._look("")]

    def _rendered(self, template: str, messages: list[Mapping[str, str]], model: Model | None) -> str:
        text = template if template.strip() else self._fitting(model)[0]
        tokens = {"bos_token": model.tokenizer.bos_token, "eos_token": model.tokenizer.eos_token} if model else {}
        return self._app.templates.render(text, messages, add_generation_prompt=True, **tokens)

    def _look(self, template: str) -> list[str]:
        """Which template is used and why, and what it makes of a small conversation."""
        model = self._app.models.loaded
        try:
            reason = "your own, below" if (template or "").strip() else self._fitting(model)[1]
            fits = f"<h2>Instruction template</h2><p>In use: {escape(reason)}.</p>"
        except UserError as error:
            return [f"<h2>Instruction template</h2><p>{escape(error)}</p>", ""]
        try:
            text = self._rendered(template or "", list(_SAMPLE), model)
        except UserError as error:
            return [fits, f"<h2>What it makes</h2><p class='warning' role='alert'>{escape(error)}</p>"]
        lines = "\n".join(visible(line) for line in text.split("\n"))
        return [fits, f"<h2>What it makes</h2><pre class='sample'>{escape(lines)}</pre>"]
