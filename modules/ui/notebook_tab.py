"""The Notebook tab: one paper on which people and the model write by turns.

The paper is a draft on disk, with the texts that Undo and Redo lead to. It connects; the services do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.generation.writing import Growth
from modules.prompts.drafts import Draft
from modules.ui.events import on
from modules.ui.file_menu import FileMenu
from modules.ui.output_tabs import OutputTabs
from modules.ui.paper import Paper, Sheet, start_text
from modules.ui.parameters_tab import ParametersTab
from modules.ui.writing_turns import Buttons, WritingTurns


class NotebookTab:
    """The tab. `paper` is where other tabs send text to; `to_other` and `to_negative` send it on."""

    def __init__(self, app: App, kept: Mapping[str, gr.BrowserState]) -> None:
        """`kept`: what the browser remembers of "notebook" and "notebook-views"."""
        self._app = app
        self._kept = kept
        with gr.Row(elem_id="notebook", elem_classes="desk"):
            with gr.Column(elem_classes="sheet"):
                self.paper = Paper(
                    app, "notebook", kept["notebook"], label="Text",
                    start=start_text(app, app.settings.prompt_notebook),
                    placeholder="Begin a text and press Generate: the model goes on from its end.",
                )  # fmt: skip
                with gr.Row(elem_classes="actions"):
                    self._generate = gr.Button("Generate", variant="primary", elem_id="notebook-generate")
                    self._stop = gr.Button("Stop", variant="stop", elem_id="notebook-stop", visible="hidden")
                    self._undo = gr.Button("Undo", elem_id="notebook-undo")
                    self._redo = gr.Button("Redo", elem_id="notebook-redo")
                    self._again = gr.Button("Regenerate", elem_id="notebook-regenerate")
                self._menu = FileMenu(app.prompts, "prompt", "notebook")
                with gr.Row(elem_classes="sends"):
                    self.to_other = gr.Button("Send to default", size="sm", elem_id="notebook-to-default")
                    self.to_negative = gr.Button("Send to negative prompt", size="sm", elem_id="notebook-to-negative")
            with gr.Column(elem_classes="views-column"):
                self._tabs = OutputTabs(app, "notebook", {"Text": self.paper}, dict)

    def wire(self, page: gr.Blocks, parameters: ParametersTab, model_changed: Any) -> None:
        """Connect everything."""
        paper = self.paper
        loaded = paper.wire(page, parameters.knobs, model_changed)
        self._tabs.wire(page, parameters, self._kept["notebook-views"])
        buttons = Buttons((self._generate, self._undo, self._redo, self._again), self._stop)
        turns = WritingTurns(self._app, paper, paper, self._tabs, buttons)
        turns.wire(loaded)
        turns.action(self._generate.click, self._more, parameters)
        turns.action(self._again.click, self._anew, parameters)
        for button, step in ((self._undo, self._app.drafts.undo), (self._redo, self._app.drafts.redo)):
            moved = on(button.click, self._stepping(step), [paper.stamp, paper.sheet, paper.field], paper.shown,
                       js="(stamp, ...rest) => [Page.now(), ...rest]")  # fmt: skip
            turns.rendered(moved)
        self._menu.wire(
            page, text=paper.exact, texts=[paper.sheet, paper.field],
            loaded=lambda text, sheet, _: paper.put(sheet, text), outputs=paper.shown,
        )  # fmt: skip

    def _more(self, sheet: Sheet, params: SamplingParams) -> Iterator[Growth]:
        return self._app.writing.go_on(sheet.id, params, writer=sheet.writer)

    def _anew(self, sheet: Sheet, params: SamplingParams) -> Iterator[Growth]:
        return self._app.writing.go_on(sheet.id, params, writer=sheet.writer, again=True)

    def _stepping(self, step: Any) -> Any:
        """Undo or Redo, from what stands in the field now."""

        def run(number: float, sheet: Sheet, field: str) -> list[Any]:
            _, sheet = self.paper.text(number, sheet, field)
            draft: Draft = step(sheet.id, sheet.writer)
            return self.paper.show(draft, sheet)

        return run
