"""The one line of controls under a text, and what is folded behind its button More."""

from __future__ import annotations

import gradio as gr

from modules.ui.parts.events import on
from modules.ui.texts import tr

#: Buttons of the line that a narrow window shows behind More.
SECOND = "second"


def more_button(tab: str) -> gr.Button:
    """Create the button that folds and unfolds `folded_part(tab)`."""
    button = gr.Button(tr("chat.more"), size="sm", elem_id=f"{tab}-more", elem_classes="quiet")
    on(button.click, None, js=f"() => {{ Page.unfoldLine('{tab}'); }}")
    return button


def folded_part(tab: str) -> gr.Column:
    """The container of what is behind More."""
    return gr.Column(elem_classes="behind", elem_id=f"{tab}-behind")
