"""The Default tab: a prompt on the left, the model's output on the right.

Both are drafts on disk. It only connects components; the services do the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.generation.draft_generation import DraftUpdate
from modules.ui.editor.actions import WritingActions, WritingButtons
from modules.ui.editor.control_line import SECOND, folded_part, more_button
from modules.ui.editor.output_tabs import OutputTabs
from modules.ui.editor.text_editor import EditorState, TextEditor, start_text
from modules.ui.parameters.tab import ParametersTab
from modules.ui.texts import tr


class DefaultTab:
    """The tab. Other tabs send text to `editor`; `to_other` and `to_negative` send it on."""

    def __init__(self, app: App, kept: Mapping[str, gr.BrowserState]) -> None:
        """`kept`: what the browser remembers of "input", "output" and "default-views"."""
        self._app = app
        self._kept = kept
        with gr.Row(elem_id="default", elem_classes="editor-tab"):
            with gr.Column(elem_classes="editor-column"):
                self.editor = TextEditor(
                    app, "input", kept["input"], label=tr("editor.prompt"),
                    start=start_text(app, app.settings.prompt_default), placeholder=tr("editor.prompt_hint"),
                )  # fmt: skip
                with gr.Row(elem_classes="editor-line"):
                    self._generate = gr.Button(tr("button.generate"), variant="primary", elem_id="default-generate")
                    self._stop = gr.Button(tr("button.stop"), variant="stop", elem_id="default-stop", visible="hidden")
                    self._continue = gr.Button(tr("button.continue"), elem_id="default-continue", elem_classes=SECOND)
                    self.editor.facts_line()
                    more_button("default")
                self._folded = folded_part(app, "default", "notebook", self.editor)
                self.to_other, self.to_negative = self._folded.to_other, self._folded.to_negative
            with gr.Column(elem_classes="views-column"):
                self._tabs = OutputTabs(app, "default", {"Prompt": self.editor}, self._raw)

    def _raw(self) -> Mapping[str, TextEditor]:
        self._output = TextEditor(
            self._app, "output", self._kept["output"], label=tr("editor.output"),
            placeholder=tr("editor.output_hint"),
        )  # fmt: skip
        with gr.Row(elem_classes="editor-line"):
            self._output.facts_line()
            self._output.line_ends()
        return {"Output": self._output}

    def wire(self, page: gr.Blocks, parameters: ParametersTab, model_changed: Any) -> None:
        """Connect everything."""
        knobs = parameters.knobs
        self.editor.wire(page, knobs, model_changed)
        loaded = self._output.wire(page, knobs, model_changed)
        self._tabs.wire(page, parameters, self._kept["default-views"])
        buttons = WritingButtons((self._generate, self._continue), self._stop)
        writing = WritingActions(self._app, self.editor, self._output, self._tabs, buttons)
        writing.wire(loaded)
        writing.wire_action([self._generate.click, self.editor.field.submit], self._from_prompt, parameters)
        writing.wire_action(self._continue.click, self._from_output, parameters)
        self._folded.menu.wire(
            page, text=self.editor.exact_text, texts=[self.editor.state, self.editor.field],
            loaded=lambda text, state, _: self.editor.put(state, text), outputs=self.editor.outputs,
        )  # fmt: skip

    def _from_prompt(self, prompt: EditorState, output: EditorState, params: SamplingParams) -> Iterator[DraftUpdate]:
        text = self._app.drafts.open(prompt.id).text
        return self._app.draft_writer.continue_draft(output.id, params, start=text, writer=output.writer)

    def _from_output(self, _: EditorState, output: EditorState, params: SamplingParams) -> Iterator[DraftUpdate]:
        return self._app.draft_writer.continue_draft(output.id, params, writer=output.writer)
