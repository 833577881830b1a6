"""The one line of controls under a text, and what is folded behind its button More."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from modules.app import App
from modules.ui.editor.text_editor import TextEditor
from modules.ui.parts.events import on
from modules.ui.parts.file_menu import FileMenu
from modules.ui.texts import tr

#: Buttons of the line that a narrow window shows behind More.
SECOND = "second"


@dataclass(frozen=True)
class FoldedPart:
    """What More shows: buttons that send the text to the other tab and to the negative prompt, and the prompt files."""

    to_other: gr.Button
    to_negative: gr.Button
    menu: FileMenu


def more_button(tab: str) -> gr.Button:
    """Create the button that folds and unfolds `folded_part(tab)`."""
    button = gr.Button(tr("chat.more"), size="sm", elem_id=f"{tab}-more", elem_classes="quiet")
    on(button.click, None, js=f"() => {{ Page.unfoldLine('{tab}'); }}")
    return button


def folded_part(app: App, tab: str, other: str, editor: TextEditor) -> FoldedPart:
    """Create what is behind More for the text of `editor`; `other`: the tab that it can be sent to."""
    with gr.Column(elem_classes="behind", elem_id=f"{tab}-behind"):
        with gr.Row(elem_classes="sends"):
            to_other = gr.Button(tr(f"send.{other}"), size="sm", elem_id=f"{tab}-to-{other}")
            to_negative = gr.Button(tr("send.negative"), size="sm", elem_id=f"{tab}-to-negative")
            editor.line_ends()
        return FoldedPart(to_other, to_negative, FileMenu(app.prompts, "prompt", tab))
