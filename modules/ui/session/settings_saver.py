"""Saves the page's current values as settings.yaml, after showing the file; theme and language of the page.

The services know the contents of a settings file; this module maps the page's controls to its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.config.settings import Settings
from modules.ui.parts.events import Updates, on, show_info, then
from modules.ui.texts import known_language, language_choices, tr


class SettingsSaver:
    """The card. `wire` gets the controls whose values are saved, by the settings' names."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_classes="card", elem_id="settings-card"):
            gr.HTML(
                f"<h2>{tr('settings.title')}</h2><p>{tr('settings.about', file=app.session.settings_file.name)}</p>",
                elem_classes="card-head",
            )
            with gr.Row(elem_classes="actions"):
                self.dark = gr.Radio(
                    [(tr("settings.dark"), True), (tr("settings.light"), False)], value=app.settings.dark_theme,
                    label=tr("settings.theme"), elem_id="theme", info=tr("settings.theme_info"),
                )  # fmt: skip
                self.language = gr.Dropdown(
                    language_choices(), value=known_language(app.settings.language), label=tr("settings.language"),
                    elem_id="language", filterable=False, info=tr("settings.language_info"),
                )  # fmt: skip
            self._show = gr.Button(tr("settings.save"), elem_id="settings-save")
            with gr.Column(visible=False, elem_id="settings-asking") as self._asking:
                # invisible until it is asked for: its script is a quarter of all that a browser would load first
                self._text = gr.Code(
                    "", language="yaml", label=tr("settings.preview"), interactive=False, visible=False
                )
                with gr.Row(elem_classes="actions"):
                    self._yes = gr.Button(tr("button.save"), variant="primary", elem_id="settings-save-now")
                    self._no = gr.Button(tr("button.cancel"), elem_id="settings-save-no")

    def wire(self, controls: Mapping[str, Any], preset: Any, knobs: Mapping[str, Any]) -> None:
        """Connect the events: `controls` by the names of settings, `knobs` by those of sampling parameters."""
        own = {**controls, "preset": preset, "dark_theme": self.dark, "language": self.language}
        names, sampling = tuple(own), tuple(knobs)

        def made(*values: Any) -> Settings:
            given = dict(zip(names, values[: len(names)], strict=True))
            params = SamplingParams.parse(dict(zip(sampling, values[len(names) :], strict=True)))
            return self._app.settings_with(given, params)

        values = [*own.values(), *knobs.values()]

        def preview(*values: Any) -> Updates:
            return {
                self._text: gr.update(value=made(*values).text(), visible=True),
                self._asking: gr.update(visible=True),
            }

        on(self._show.click, preview, values, [self._text, self._asking])
        saved = on(self._yes.click, lambda *v: self._save(made(*v)), values)
        for event in (saved, on(self._no.click, None)):
            then(event, lambda: gr.update(visible=False), None, [self._asking])

    def keep_look(self, dark: bool | None, language: str | None) -> None:
        """Save theme and language, if they differ from those of this run: for a restart that makes them count."""
        now = self._app.settings
        was = {"dark_theme": now.dark_theme, "language": known_language(now.language)}
        changed = {"dark_theme": was["dark_theme"] if dark is None else dark, "language": language or was["language"]}
        if changed != was:
            self._app.session.change_settings(**changed)

    def _save(self, settings: Settings) -> None:
        file = self._app.session.save_settings(settings)
        show_info(tr("settings.saved", file=file.name))
