"""What extensions show in the page: a tab of their own, or a part of the drawer beside Chat, Default and Notebook.

An extension whose `ui` fails shows its sentence there and nothing else. What any of them does is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.app import App
from modules.extensions import Extension
from modules.extensions.hooks import Passing
from modules.ui.events import on
from modules.ui.words import escape

#: Components that scripts look up in `shared.gradio`, by the original's names, are put here while the page is built.
Components = Mapping[str, Any]


class Drawer:
    """The drawer of all extensions without a tab of their own. Nothing at all where there are none."""

    def __init__(self, app: App, switch: gr.Button) -> None:
        """`switch` stands in the bar and opens it."""
        extensions = [each for each in app.extensions.having("ui") if not each.is_tab]
        switch.visible = bool(extensions)
        if not extensions:
            return
        on(switch.click, None, js="() => Page.toggleExtensions()")
        with gr.Column(elem_id="extensions"):
            with gr.Row(elem_id="extensions-head"):
                gr.HTML("<h2>Extensions</h2>")
                close = gr.Button("Close", size="sm", elem_id="extensions-close")
                on(close.click, None, js="() => Page.toggleExtensions(false)")
            for extension in extensions:
                with gr.Column(elem_id=f"extension-{extension.name}", elem_classes="extension"):
                    gr.HTML(f"<h3>{escape(extension.title)}</h3>")
                    draw(extension)


def tabs(app: App) -> None:
    """The tabs that extensions want for themselves. Call it inside the page's tabs."""
    for extension in app.extensions.having("ui"):
        if extension.is_tab:
            name = f"tab-{extension.name}"
            with gr.Tab(extension.title, id=extension.name, elem_id=name), gr.Column(elem_classes="extension page"):
                draw(extension)


def draw(extension: Extension) -> None:
    """Let it make its components here."""
    passing = Passing(None)
    with gr.Column():
        extension.hook("ui", passing)
    for note in passing.notes:
        gr.HTML(f"<p class='warning'>{escape(note)}</p>")


def head(app: App) -> str:
    """The CSS and JavaScript of all extensions, for the page's head."""
    css, js = app.extensions.text_of("custom_css"), app.extensions.text_of("custom_js")
    style = f"<style>{css.replace('</style', '')}</style>" if css.strip() else ""
    return style + (f"<script>{js.replace('</script', '')}</script>" if js.strip() else "")
