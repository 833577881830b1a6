"""The Default tab: a prompt on the left, what the model makes of it on the right.

Both are papers: drafts on disk. It connects them; what it does is the services' business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.generation.writing import Growth
from modules.ui.file_menu import FileMenu
from modules.ui.output_tabs import OutputTabs
from modules.ui.paper import Paper, Sheet, start_text
from modules.ui.parameters_tab import ParametersTab
from modules.ui.writing_turns import Buttons, WritingTurns


class DefaultTab:
    """The tab. `paper` is where other tabs send text to; `sends` are the buttons that send it on."""

    def __init__(self, app: App, kept: Mapping[str, gr.BrowserState]) -> None:
        """`kept`: what the browser remembers of "input", "output" and "default-views"."""
        self._app = app
        self._kept = kept
        with gr.Row(elem_id="default", elem_classes="desk"):
            with gr.Column(elem_classes="sheet"):
                self.paper = Paper(
                    app, "input", kept["input"], label="Prompt", start=start_text(app, app.settings.prompt_default),
                    placeholder="Write a prompt. Every space and newline reaches the model as it stands here.",
                )  # fmt: skip
                with gr.Row(elem_classes="actions"):
                    self._generate = gr.Button("Generate", variant="primary", elem_id="default-generate")
                    self._continue = gr.Button("Continue", elem_id="default-continue")
                    self._stop = gr.Button("Stop", variant="stop", elem_id="default-stop", visible="hidden")
                self._menu = FileMenu(app.prompts, "prompt", "default")
                with gr.Row(elem_classes="sends"):
                    self.to_other = gr.Button("Send to notebook", size="sm", elem_id="default-to-notebook")
                    self.to_negative = gr.Button("Send to negative prompt", size="sm", elem_id="default-to-negative")
            with gr.Column(elem_classes="views-column"):
                self._tabs = OutputTabs(app, "default", {"Prompt": self.paper}, self._raw)

    def _raw(self) -> Mapping[str, Paper]:
        self._output = Paper(
            self._app, "output", self._kept["output"], label="Output",
            placeholder="What the model writes stands here, after the prompt. Continue lets it go on from here.",
        )  # fmt: skip
        return {"Output": self._output}

    def wire(self, page: gr.Blocks, parameters: ParametersTab, model_changed: Any) -> None:
        """Connect everything."""
        knobs = parameters.knobs
        self.paper.wire(page, knobs, model_changed)
        loaded = self._output.wire(page, knobs, model_changed)
        self._tabs.wire(page, parameters, self._kept["default-views"])
        buttons = Buttons((self._generate, self._continue), self._stop)
        turns = WritingTurns(self._app, self.paper, self._output, self._tabs, buttons)
        turns.wire(loaded)
        turns.action([self._generate.click, self.paper.field.submit], self._from_prompt, parameters)
        turns.action(self._continue.click, self._from_output, parameters)
        self._menu.wire(
            page, text=self.paper.exact, texts=[self.paper.sheet, self.paper.field],
            loaded=lambda text, sheet, _: self.paper.put(sheet, text), outputs=self.paper.shown,
        )  # fmt: skip

    def _from_prompt(self, prompt: Sheet, output: Sheet, params: SamplingParams) -> Iterator[Growth]:
        text = self._app.drafts.open(prompt.id).text
        return self._app.writing.go_on(output.id, params, start=text, writer=output.writer)

    def _from_output(self, _: Sheet, output: Sheet, params: SamplingParams) -> Iterator[Growth]:
        return self._app.writing.go_on(output.id, params, writer=output.writer)
