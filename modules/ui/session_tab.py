"""The Session tab: what is running here, and with which flags. Extensions come later."""

from __future__ import annotations

import platform
from typing import Any

import gradio as gr

from modules.app import App
from modules.config.server_flags import ServerFlags
from modules.ui.queue_view import QueueView
from modules.ui.words import parts, table

#: Never shown: whoever can open the page need not know them.
_SECRET = frozenset({"gradio_auth", "api_key", "admin_key"})


def build(app: App) -> QueueView:
    """The tab's page. Returns what shows the queue, which the frame keeps true."""
    with gr.Column(elem_id="session"):
        gr.HTML("<h1>Session</h1><p>What is running, and how this start was asked for.</p>", elem_classes="page-head")
        queue = QueueView(app)
        gr.HTML(table(running(app), "Running"))
        gr.HTML(table(flags(app), "Flags in effect"))
        gr.HTML(
            "<p>Flags are given on the command line or in CMD_FLAGS.txt and count from the next start. Light or dark "
            "is switched in the bar and remembered by this browser. Extensions will be chosen here.</p>"
        )
    return queue


def running(app: App) -> list[tuple[str, str]]:
    """Versions and places."""
    return [
        ("Address", app.launch.server.address),
        ("Models", str(app.paths.models)),
        ("Chats", str(app.paths.logs)),
        ("Python", platform.python_version()),
        ("Gradio", gr.__version__),
    ]


def flags(app: App) -> list[tuple[str, str]]:
    """What was given, else a line that says that nothing was."""
    given: dict[str, Any] = {**app.launch.server.differing(), **app.launch.load_options}
    known = ServerFlags.knobs()
    rows = [
        ("--" + name.replace("_", "-"), "(hidden)" if name in _SECRET else parts(_word(value)))
        for name, value in given.items()
        if name in known or name in app.launch.load_options
    ]
    return rows or [("None", "everything is at its default")]


def _word(value: Any) -> str:
    if value is True:
        return "on"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
