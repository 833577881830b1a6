"""Saving what the page shows now as settings.yaml, with a look at the file first; theme and language of the page.

The services know what a settings file holds; here the page's controls are given their names in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.config.settings import Settings
from modules.ui import language
from modules.ui.events import on, say, then


class SettingsSaver:
    """The card. `wire` gets the controls whose values are saved, by the settings' names."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_classes="card", elem_id="settings-card"):
            gr.HTML(
                "<h2>The interface</h2><p>What the page starts with, for every browser: kept in "
                f"{app.session.settings_file.name}, and in effect after a restart.</p>",
                elem_classes="card-head",
            )
            with gr.Row(elem_classes="actions"):
                self.dark = gr.Radio(
                    [("Dark", True), ("Light", False)], value=app.settings.dark_theme, label="Theme", elem_id="theme",
                    info="Until a browser has chosen for itself, by the button in the bar.",
                )  # fmt: skip
                self.language = gr.Dropdown(
                    language.choices(), value=language.known(app.settings.language), label="Language",
                    elem_id="language", filterable=False, info="Of labels and buttons. What is told stays English.",
                )  # fmt: skip
            self._show = gr.Button("Save what the page shows as the start values", elem_id="settings-save")
            with gr.Column(visible=False, elem_id="settings-asking") as self._asking:
                self._text = gr.Code("", language="yaml", label="What the file will hold", interactive=False)
                with gr.Row(elem_classes="actions"):
                    self._yes = gr.Button("Save it", variant="primary", elem_id="settings-save-now")
                    self._no = gr.Button("Cancel", elem_id="settings-save-no")

    def wire(self, controls: Mapping[str, Any], preset: Any, knobs: Mapping[str, Any]) -> None:
        """Connect it: `controls` by the names of settings, `knobs` by those of sampling knobs."""
        own = {**controls, "preset": preset, "dark_theme": self.dark, "language": self.language}
        names, sampling = tuple(own), tuple(knobs)

        def made(*values: Any) -> Settings:
            given = dict(zip(names, values[: len(names)], strict=True))
            params = SamplingParams.parse(dict(zip(sampling, values[len(names) :], strict=True)))
            return self._app.settings_with(given, params)

        values = [*own.values(), *knobs.values()]
        on(self._show.click, lambda *v: [made(*v).text(), gr.update(visible=True)], values, [self._text, self._asking])
        saved = on(self._yes.click, lambda *v: self._save(made(*v)), values)
        for event in (saved, on(self._no.click, None)):
            then(event, lambda: gr.update(visible=False), None, [self._asking])

    def _save(self, settings: Settings) -> None:
        file = self._app.session.save_settings(settings)
        say(f"{file.name} is saved; it counts from the next start.")
