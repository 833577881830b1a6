"""The Notebook tab: one text that the user and the model write in turn.

It is a draft on disk, with its history for Undo and Redo. The tab only connects; the services do the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.generation.draft_generation import DraftUpdate
from modules.prompts.drafts import Draft
from modules.ui.editor.actions import WritingActions, WritingButtons
from modules.ui.editor.control_line import SECOND, folded_part, more_button
from modules.ui.editor.output_tabs import OutputTabs
from modules.ui.editor.text_editor import STAMP, EditorState, TextEditor, start_text
from modules.ui.parameters.tab import ParametersTab
from modules.ui.parts.events import Updates, on
from modules.ui.texts import tr


class NotebookTab:
    """The tab. `editor` receives texts from other tabs; `to_other` and `to_negative` send its text on."""

    def __init__(self, app: App, kept: Mapping[str, gr.BrowserState]) -> None:
        """`kept`: what the browser remembers of "notebook" and "notebook-views"."""
        self._app = app
        self._kept = kept
        with gr.Row(elem_id="notebook", elem_classes="editor-tab"):
            with gr.Column(elem_classes="editor-column"):
                self.editor = TextEditor(
                    app, "notebook", kept["notebook"], label=tr("editor.text"),
                    start=start_text(app, app.settings.prompt_notebook),
                    placeholder=tr("editor.notebook_hint"),
                )  # fmt: skip
                with gr.Row(elem_classes="editor-line"):
                    self._generate = gr.Button(tr("button.generate"), variant="primary", elem_id="notebook-generate")
                    self._stop = gr.Button(tr("button.stop"), variant="stop", elem_id="notebook-stop", visible="hidden")
                    self._undo = gr.Button(tr("button.undo"), elem_id="notebook-undo", elem_classes=SECOND)
                    self._redo = gr.Button(tr("button.redo"), elem_id="notebook-redo", elem_classes=SECOND)
                    self._again = gr.Button(tr("button.regenerate"), elem_id="notebook-regenerate", elem_classes=SECOND)
                    self.editor.facts_line()
                    more_button("notebook")
                self._folded = folded_part(app, "notebook", "default", self.editor)
                self.to_other, self.to_negative = self._folded.to_other, self._folded.to_negative
            with gr.Column(elem_classes="views-column"):
                self._tabs = OutputTabs(app, "notebook", {"Text": self.editor}, dict)

    def wire(self, page: gr.Blocks, parameters: ParametersTab, model_changed: Any) -> None:
        """Connect everything."""
        editor = self.editor
        loaded = editor.wire(page, parameters.knobs, model_changed)
        self._tabs.wire(page, parameters, self._kept["notebook-views"])
        buttons = WritingButtons((self._generate, self._undo, self._redo, self._again), self._stop)
        writing = WritingActions(self._app, editor, editor, self._tabs, buttons)
        writing.wire(loaded)
        writing.wire_action(self._generate.click, self._continue, parameters)
        writing.wire_action(self._again.click, self._regenerate, parameters)
        for button, step in ((self._undo, self._app.drafts.undo), (self._redo, self._app.drafts.redo)):
            moved = on(button.click, self._make_step(step), [editor.stamp, editor.state, editor.field], editor.outputs,
                       js=STAMP)  # fmt: skip
            writing.render_after(moved)
        self._folded.menu.wire(
            page, text=editor.exact_text, texts=[editor.state, editor.field],
            loaded=lambda text, state, _: editor.put(state, text), outputs=editor.outputs,
        )  # fmt: skip

    def _continue(self, state: EditorState, params: SamplingParams) -> Iterator[DraftUpdate]:
        return self._app.draft_writer.continue_draft(state.id, params, writer=state.writer)

    def _regenerate(self, state: EditorState, params: SamplingParams) -> Iterator[DraftUpdate]:
        return self._app.draft_writer.continue_draft(state.id, params, writer=state.writer, again=True)

    def _make_step(self, step: Any) -> Any:
        """Undo or Redo, from what is in the field now."""

        def run(number: float, state: EditorState, field: str) -> Updates:
            _, state = self.editor.store_text(number, state, field)
            draft: Draft = step(state.id, state.writer)
            return self.editor.show(draft, state)

        return run
