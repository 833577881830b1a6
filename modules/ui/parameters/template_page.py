"""Parameters, Instruction template: the template that converts a conversation to the prompt, with an example.

An empty field means the template that fits the model. It asks the services for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from errors import NoModelLoaded, UserError
from loaders.base import Model
from modules.app import App
from modules.chat.prompt.build import COMMAND
from modules.chat.prompt_knobs import PromptKnobs
from modules.generation.token_view import mark_invisible
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, on, show_info
from modules.ui.parts.file_menu import FileMenu
from modules.ui.parts.formatting import escape, short_name
from modules.ui.parts.sentences import translated
from modules.ui.texts import knob_help, knob_label, tr

#: A longer template is not shown in the empty field.
_SHOWN = 100_000

_SAMPLE = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Input"},
    {"role": "assistant", "content": "Output"},
    {"role": "user", "content": "Input"},
)


def _field(name: str, value: str, elem_id: str, lines: int, placeholder: str | None = None) -> gr.Textbox:
    """The field of a template, from its declaration. `lines`: how high it grows."""
    knob = PromptKnobs.knobs()[name]
    return gr.Textbox(
        value, label=knob_label(knob, "prompt"), info=knob_help(knob, "prompt"), lines=knob.lines, max_lines=lines,
        elem_id=elem_id, elem_classes="knob knob-str", placeholder=placeholder,
    )  # fmt: skip


class TemplatePage:
    """The sub-tab. `inputs` are what a reply's settings take from it: instruction template, chat template, command."""

    def __init__(self, app: App, kept: gr.BrowserState) -> None:
        self._app = app
        self._kept = kept
        settings = app.settings
        with gr.Row(elem_id="templates"):
            with gr.Column(elem_classes="card"):
                self._in_use = gr.HTML("", elem_id="template-in-use", padding=False)
                self._menu = FileMenu(app.templates, "template", "template")
                self.instruction = _field("instruction_template", "", "template-text", 24)
                with gr.Row(elem_classes="actions"):
                    self._own = gr.Button(tr("template.own"), size="sm", elem_id="template-own")
                    self._clear = gr.Button(tr("template.auto"), size="sm", elem_id="template-clear")
                    self._keep = gr.Button(tr("template.keep"), size="sm", elem_id="template-keep")
                with gr.Row(elem_classes="sends"):
                    self.to_default = gr.Button(tr("send.default"), size="sm", elem_id="template-to-default")
                    self.to_notebook = gr.Button(tr("send.notebook"), size="sm", elem_id="template-to-notebook")
                    self.to_negative = gr.Button(tr("send.negative"), size="sm", elem_id="template-to-negative")
            with gr.Column(elem_classes="card"):
                self._preview = gr.HTML("", elem_id="template-preview", padding=False)
                self._chat = _field("chat_template", settings.chat_template_str, "chat-template", 20)
                self._command = _field("command", settings.chat_instruct_command, "chat-command", 12, COMMAND)

    @property
    def inputs(self) -> list[Any]:
        """What a reply's settings take from here."""
        return [self.instruction, self._chat, self._command]

    def wire(self, page: gr.Blocks, model_changed: Any) -> None:
        """Connect it."""
        on(page.load, self._restore, [self._kept], self.inputs)
        on([each.change for each in self.inputs], lambda *texts: list(texts), self.inputs, [self._kept], latest=True)
        preview = [self._in_use, self._preview, self.instruction]
        changes = [self.instruction.change, page.load, model_changed]
        on(changes, self._show_preview, [self.instruction], preview, latest=True)
        on(self._own.click, lambda: self._detect(self._app.models.loaded)[0], None, [self.instruction])
        on(self._clear.click, lambda: "", None, [self.instruction])
        on(self._keep.click, self._keep_for_model, [self.instruction], preview)
        self._menu.wire(
            page, text=str, texts=[self.instruction], loaded=lambda text, _: text, outputs=[self.instruction]
        )

    def prompt(self, template: str) -> str:
        """The prompt of a conversation that contains only "Input", for other tabs. Raises: UserError."""
        return self._render(template, [{"role": "user", "content": "Input"}], self._app.models.loaded)

    # --- inside ---

    def _restore(self, kept: list[str]) -> list[str]:
        settings = self._app.settings
        return kept if len(kept or ()) == 3 else ["", settings.chat_template_str, settings.chat_instruct_command]

    def _detect(self, model: Model | None) -> tuple[str, str]:
        if model is None:
            raise NoModelLoaded
        return self._app.templates.detect(model)

    def _keep_for_model(self, template: str) -> Updates:
        """Save the template in the field for this model; with an empty field, forget the saved one."""
        name = self._app.models.keep_template(template if template.strip() else "")
        show_info(tr("template.kept" if template.strip() else "template.unkept", name=short_name(name)))
        shown = self._show_preview("")
        field = shown.get(self.instruction) or gr.update()
        return {**shown, self.instruction: {**field, "value": ""}}

    def _render(self, template: str, messages: list[Mapping[str, str]], model: Model | None) -> str:
        text = template if template.strip() else self._detect(model)[0]
        tokens = {"bos_token": model.tokenizer.bos_token, "eos_token": model.tokenizer.eos_token} if model else {}
        return self._app.templates.render(text, messages, add_generation_prompt=True, **tokens)

    def _show_preview(self, template: str) -> Updates:
        """Which template is used and why, and its result for a small conversation."""
        model = self._app.models.loaded
        head, preview = f"<h2>{tr('tab.template')}</h2>", f"<h2>{tr('template.preview')}</h2>"
        try:
            reason = tr("template.reason_own") if (template or "").strip() else self._detect(model)[1]
            in_use = f"{head}<p>{tr('template.in_use', reason=escape(translated(reason)))}</p>"
            detected = self._detect(model)[0] if model else ""
        except UserError as error:
            return {self._in_use: f"{head}<p>{escape(error_text(error))}</p>", self._preview: ""}
        try:
            text = self._render(template or "", list(_SAMPLE), model)
        except UserError as error:
            warning = f"{preview}<p class='warning' role='alert'>{escape(error_text(error))}</p>"
            return {self._in_use: in_use, self._preview: warning}
        lines = "\n".join(mark_invisible(line) for line in text.split("\n"))
        shown = f"{preview}<pre class='sample' tabindex='0'>{escape(lines)}</pre>"
        # the template in use stands in the empty field, greyed, until one edits it: editors.js
        grey = detected if len(detected) <= _SHOWN else ""
        return {self._in_use: in_use, self._preview: shown, self.instruction: gr.update(placeholder=grey)}
