"""A menu of the user's text files: load by choosing, save under a name, delete after confirmation.

The same for prompts, grammars and templates. Its owner defines what the text is and where it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import gradio as gr

from errors import InvalidInput
from modules.ui.parts.events import Updates, on, show_info
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr


class TextFiles(Protocol):
    """A store of texts by name."""

    def names(self) -> list[str]: ...
    def load(self, name: str) -> str: ...
    def save(self, name: str, text: str) -> None: ...
    def delete(self, name: str) -> None: ...


class FileMenu:
    """The menu. `kind`: "prompt", "grammar", "template" or "list"; its controls' ids begin with `prefix`."""

    def __init__(self, files: TextFiles, kind: str, prefix: str) -> None:
        self._files = files
        with gr.Row(elem_classes="file-menu", elem_id=f"{prefix}-menu"):
            self.names = gr.Dropdown(
                files.names(), value=None, label=tr(f"file.saved_{kind}s"),
                elem_id=f"{prefix}-files",
            )  # fmt: skip
            self._refresh = gr.Button(tr("button.refresh"), size="sm", elem_id=f"{prefix}-refresh")
            self._save_as = gr.Button(tr("button.save_as"), size="sm", elem_id=f"{prefix}-save-as")
            self._delete = gr.Button(tr("button.delete"), size="sm", elem_id=f"{prefix}-delete")
        with gr.Row(elem_classes="asking", visible=False, elem_id=f"{prefix}-saving") as self._saving:
            self._name = gr.Textbox(label=tr("file.name"), max_lines=1, elem_id=f"{prefix}-name")
            self._save = gr.Button(tr("button.save"), variant="primary", size="sm", elem_id=f"{prefix}-save")
            self._save_no = gr.Button(tr("button.cancel"), size="sm")
        with gr.Row(elem_classes="asking", visible=False, elem_id=f"{prefix}-deleting") as self._deleting:
            self._question = gr.HTML("")
            self._delete_yes = gr.Button(tr("button.delete"), variant="stop", size="sm", elem_id=f"{prefix}-delete-now")
            self._delete_no = gr.Button(tr("button.cancel"), size="sm")

    def wire(
        self,
        page: gr.Blocks,
        *,
        text: Callable[..., str],
        texts: Sequence[Any],
        loaded: Callable[..., Any],
        outputs: Sequence[Any],
    ) -> Any:
        """Connect the events: `text(*texts)` is what would be saved, `loaded(text, *texts)` returns values for
        `outputs`.

        Returns the event after which a file was loaded.
        """
        on(page.load, self._list, [self.names], [self.names])
        on(self._refresh.click, self._list, [self.names], [self.names])
        on(self._save_as.click, self._ask_name, [self.names], [self._saving, self._name])
        on(self._save_no.click, _hide, None, [self._saving])
        on(
            [self._save.click, self._name.submit],
            lambda name, *values: self._save_text(name, text(*values)),
            [self._name, *texts],
            [self.names, self._saving],
        )
        on(self._delete.click, self._ask_delete, [self.names], [self._question, self._deleting])
        on(self._delete_yes.click, self._delete_file, [self.names], [self.names, self._deleting])
        on(self._delete_no.click, _hide, None, [self._deleting])
        return on(
            self.names.select,  # not `input`, which gradio's menus report twice for one choice
            lambda name, *values: loaded(self._files.load(name), *values),
            [self.names, *texts],
            outputs,
        )

    def _list(self, name: str | None) -> Updates:
        names = self._files.names()
        return {self.names: gr.update(choices=names, value=name if name in names else None)}

    def _ask_name(self, name: str | None) -> Updates:
        return {self._saving: gr.update(visible=True), self._name: name or f"{datetime.now():%Y-%m-%d-%H%M%S}"}

    def _save_text(self, name: str, text: str) -> Updates:
        name = name.strip()
        self._files.save(name, text)
        show_info(tr("file.saved", name=name))
        return {**self._list(name), self._saving: _hide()}

    def _ask_delete(self, name: str | None) -> Updates:
        if not name:
            raise InvalidInput(tr("file.choose"))
        return {self._question: tr("file.ask", name=escape(name)), self._deleting: gr.update(visible=True)}

    def _delete_file(self, name: str) -> Updates:
        self._files.delete(name)
        show_info(tr("file.deleted", name=name))
        return {**self._list(None), self._deleting: _hide()}


def _hide() -> Any:
    return gr.update(visible=False)
