"""A menu of the user's text files: load by choosing, save under a name, delete after a question.

The same for prompts, grammars and templates. What the text is, and where it goes, its owner says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import gradio as gr

from errors import InvalidInput
from modules.ui.events import on, say
from modules.ui.words import escape


class Files(Protocol):
    """Texts with names."""

    def names(self) -> list[str]: ...
    def load(self, name: str) -> str: ...
    def save(self, name: str, text: str) -> None: ...
    def delete(self, name: str) -> None: ...


class FileMenu:
    """The menu. `kind` is what one of the files is called; its controls' ids begin with `prefix`."""

    def __init__(self, files: Files, kind: str, prefix: str) -> None:
        self._files = files
        self._kind = kind
        with gr.Row(elem_classes="file-menu", elem_id=f"{prefix}-menu"):
            self.names = gr.Dropdown(
                files.names(), value=None, label=f"Saved {kind}s",
                elem_id=f"{prefix}-files",
            )  # fmt: skip
            self._refresh = gr.Button("Refresh", size="sm", elem_id=f"{prefix}-refresh")
            self._save_as = gr.Button("Save as", size="sm", elem_id=f"{prefix}-save-as")
            self._delete = gr.Button("Delete", size="sm", elem_id=f"{prefix}-delete")
        with gr.Row(elem_classes="asking", visible=False, elem_id=f"{prefix}-saving") as self._saving:
            self._name = gr.Textbox(label=f"Save the {kind} as", max_lines=1, elem_id=f"{prefix}-name")
            self._save = gr.Button("Save", variant="primary", size="sm", elem_id=f"{prefix}-save")
            self._save_no = gr.Button("Cancel", size="sm")
        with gr.Row(elem_classes="asking", visible=False, elem_id=f"{prefix}-deleting") as self._deleting:
            self._question = gr.HTML("")
            self._delete_yes = gr.Button(
                f"Delete the {kind}", variant="stop", size="sm", elem_id=f"{prefix}-delete-now"
            )
            self._delete_no = gr.Button("Keep it", size="sm")

    def wire(
        self,
        page: gr.Blocks,
        *,
        text: Callable[..., str],
        texts: Sequence[Any],
        loaded: Callable[..., Any],
        outputs: Sequence[Any],
    ) -> Any:
        """Connect it: `text(*texts)` is what would be saved, `loaded(text, *texts)` gives values for `outputs`.

        Returns the event after which a file was loaded.
        """
        on(page.load, self._listed, [self.names], [self.names])
        on(self._refresh.click, self._listed, [self.names], [self.names])
        on(self._save_as.click, self._ask_name, [self.names], [self._saving, self._name])
        on(self._save_no.click, _hide, None, [self._saving])
        on(
            [self._save.click, self._name.submit],
            lambda name, *given: self._write(name, text(*given)),
            [self._name, *texts],
            [self.names, self._saving],
        )
        on(self._delete.click, self._ask, [self.names], [self._question, self._deleting])
        on(self._delete_yes.click, self._remove, [self.names], [self.names, self._deleting])
        on(self._delete_no.click, _hide, None, [self._deleting])
        return on(
            self.names.input,
            lambda name, *given: loaded(self._files.load(name), *given),
            [self.names, *texts],
            outputs,
        )

    def _listed(self, name: str | None) -> Any:
        names = self._files.names()
        return gr.update(choices=names, value=name if name in names else None)

    def _ask_name(self, name: str | None) -> list[Any]:
        return [gr.update(visible=True), name or f"{datetime.now():%Y-%m-%d-%H%M%S}"]

    def _write(self, name: str, text: str) -> list[Any]:
        name = name.strip()
        self._files.save(name, text)
        say(f"The {self._kind} {name} is saved.")
        return [gr.update(choices=self._files.names(), value=name), gr.update(visible=False)]

    def _ask(self, name: str | None) -> list[Any]:
        if not name:
            raise InvalidInput(f"Choose the {self._kind} that is to be deleted first.")
        question = f"Delete the {self._kind} <b>{escape(name)}</b>? Its file is removed; the text in the page stays."
        return [question, gr.update(visible=True)]

    def _remove(self, name: str) -> list[Any]:
        self._files.delete(name)
        say(f"The {self._kind} {name} is deleted.")
        return [gr.update(choices=self._files.names(), value=None), gr.update(visible=False)]


def _hide() -> Any:
    return gr.update(visible=False)
