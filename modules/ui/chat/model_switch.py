"""The model menu in the head of the chat: which model is loaded, and loading another one without leaving the chat.

The Model tab has all options; here a model is loaded with those that are saved for it, or the defaults.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.app import App
from modules.ui.parts.events import Updates, on, then
from modules.ui.parts.formatting import short_name
from modules.ui.texts import tr


class ModelSwitch:
    """The menu."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.menu = gr.Dropdown(
            [], value=None, label=tr("chat.model"), show_label=False, container=False, elem_id="head-model",
            filterable=False,
        )  # fmt: skip

    def wire(self, page: gr.Blocks, model_changed: Any) -> None:
        """Connect it; `model_changed` is the event of another model."""
        on([page.load, model_changed], self._show, None, [self.menu], latest=True)
        # not `input`, which gradio's menus report twice for one choice; the second part also after a failure
        then(on(self.menu.select, self._load, [self.menu]), self._show, None, [self.menu])

    def _show(self) -> Updates:
        names = [item.name for item in self._app.catalog.items() if not item.problem]
        state = self._app.models.state
        name = state.name if state.phase in ("loading", "loaded") else None
        choices = [(short_name(each), each) for each in names]
        return {self.menu: gr.update(choices=choices, value=name if name in names else None, visible=bool(names))}

    def _load(self, name: str) -> None:
        """Load the chosen model; the header shows the progress. Raises: UserError."""
        if name and name != self._app.models.state.name:
            self._app.models.load(name)
