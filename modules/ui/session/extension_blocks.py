"""The components of extensions: a tab of their own, or a part of the sidebar of Chat, Default and Notebook.

If an extension's `ui` fails, only its error is shown there. This module knows no extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.app import App
from modules.extensions import Extension
from modules.extensions.hooks import HookCall
from modules.ui.parts.events import on
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr

#: Components that scripts look up in `shared.gradio`, under the original's names, are added here while the page is
#: built.
Components = Mapping[str, Any]


class ExtensionDrawer:
    """The sidebar for all extensions without their own tab. Not shown if there are none."""

    def __init__(self, app: App, switch: gr.Button) -> None:
        """`switch` is the button in the header that opens it."""
        extensions = [each for each in app.extensions.having("ui") if not each.is_tab]
        switch.visible = bool(extensions)
        if not extensions:
            return
        on(switch.click, None, js="() => Page.toggleExtensions()")
        with gr.Column(elem_id="extensions"):
            with gr.Row(elem_id="extensions-head"):
                gr.HTML(f"<h2>{tr('header.extensions')}</h2>")
                close = gr.Button(tr("button.close"), size="sm", elem_id="extensions-close")
                on(close.click, None, js="() => Page.toggleExtensions(false)")
            for extension in extensions:
                with gr.Column(elem_id=f"extension-{extension.name}", elem_classes="extension"):
                    gr.HTML(f"<h3>{escape(extension.title)}</h3>")
                    draw_extension(extension)


def extension_tabs(app: App) -> None:
    """The tabs that extensions have. Call it inside the page's tabs."""
    for extension in app.extensions.having("ui"):
        if extension.is_tab:
            name = f"tab-{extension.name}"
            with gr.Tab(extension.title, id=extension.name, elem_id=name), gr.Column(elem_classes="extension page"):
                draw_extension(extension)


def draw_extension(extension: Extension) -> None:
    """Let an extension create its components here."""
    passing = HookCall(None)
    with gr.Column():
        extension.hook("ui", passing)
    for note in passing.notes:
        gr.HTML(f"<p class='warning'>{escape(note)}</p>")


def extension_head(app: App) -> str:
    """The CSS and JavaScript of all extensions, for the page's head."""
    css, js = app.extensions.text_of("custom_css"), app.extensions.text_of("custom_js")
    style = f"<style>{css.replace('</style', '')}</style>" if css.strip() else ""
    return style + (f"<script>{js.replace('</script', '')}</script>" if js.strip() else "")
