"""A button for downloads: the file is created when the button is clicked, and the browser saves it.

gradio's own download button needs the file before the click. It must not know what the file is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from modules.ui.parts.events import on, then

_SAVE = "() => { setTimeout(() => document.querySelector('#%s').click(), 100); }"


class FileDownload:
    """The button, and a hidden gradio button that holds the file while it is saved."""

    def __init__(self, label: str, elem_id: str) -> None:
        self._id = f"{elem_id}-file"
        self._button = gr.Button(label, size="sm", elem_id=elem_id)
        self._file = gr.DownloadButton("", visible="hidden", elem_id=self._id)

    def wire(self, make: Callable[..., tuple[str, bytes]], inputs: Sequence[Any], *, js: str | None = None) -> None:
        """Connect the events: `make` returns the file's name and contents. Its errors become toasts. `js` is what the
        browser does at once, with the inputs.
        """

        def write(*values: Any) -> str:
            name, data = make(*values)
            # in the folder of the page's uploads, which is cleaned up later
            folder = Path(self._file.GRADIO_CACHE)
            folder.mkdir(parents=True, exist_ok=True)
            path = Path(tempfile.mkdtemp(dir=folder)) / name
            path.write_bytes(data)
            return str(path)

        made = on(self._button.click, write, inputs, [self._file], js=js)
        saved = then(made, None, js=_SAVE % self._id)
        then(saved, lambda: None, None, [self._file], js="() => new Promise((done) => setTimeout(done, 500))")
