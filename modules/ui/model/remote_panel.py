"""The Model tab's form for a model on another server: address, kind, model, key.

Adding writes an entry for the models folder; loading it asks the server. It must not know how servers are asked.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules.app import App
from modules.library.remote_models import KIND_NAMES
from modules.ui.parts.events import Updates, on, show_info
from modules.ui.parts.formatting import short_name
from modules.ui.texts import tr


class RemotePanel:
    """The form. `added` is the name of the last new entry: others follow its changes."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Accordion(tr("remote.title"), open=False, elem_id="remote", elem_classes="rest"):
            self._url = gr.Textbox(
                label=tr("remote.url"), max_lines=1, elem_id="remote-url",
                info=tr("remote.url_info"),
            )  # fmt: skip
            self._name = gr.Textbox(
                label=tr("remote.name"), max_lines=1, elem_id="remote-name", info=tr("remote.name_info")
            )
            self._kind = gr.Dropdown(
                [(tr("remote.kind_asked"), ""), *((name, name) for name in KIND_NAMES)],
                value="", label=tr("remote.kind"), elem_id="remote-kind", info=tr("remote.kind_info"),
            )  # fmt: skip
            self._model = gr.Textbox(
                label=tr("remote.model"), max_lines=1, elem_id="remote-model", info=tr("remote.model_info")
            )
            self._key = gr.Textbox(
                label=tr("remote.key"), type="password", max_lines=1, elem_id="remote-key", info=tr("remote.key_info")
            )
            with gr.Row(elem_classes="actions"):
                self._add = gr.Button(tr("remote.add"), variant="primary", size="sm", elem_id="remote-add")
        self.added = gr.State("")

    def wire(self) -> None:
        """Connect it."""
        inputs = [self._url, self._name, self._kind, self._model, self._key]
        on([self._add.click, self._url.submit], self._add_entry, inputs, [self.added, self._key])

    def _add_entry(self, url: str, name: str, kind: Any, model: str, key: str, request: gr.Request) -> Updates:
        added = self._app.add_remote_model(
            url, name=name, kind=kind or "", model=model, key=key, user=getattr(request, "username", None)
        )
        show_info(tr("remote.added", name=short_name(added)))
        return {self.added: added, self._key: ""}
