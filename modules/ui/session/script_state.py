"""What scripts for the original program expect of its page beyond its controls: the chat that is open, and the state
that they gather. Made only if an extension draws something.
"""

from __future__ import annotations

import gradio as gr

from modules.app import App
from modules.ui.chat.view import ChatRef
from modules.ui.parts.events import Updates, on


class ScriptState:
    """Values of a browser window, under the original's names. `fields`: those that belong to a reply's state."""

    def __init__(self, app: App, chat: gr.State) -> None:
        """`chat` contains the ChatRef of the chat that the window shows."""
        self._app = app
        self._history = gr.State(app.script_chats.history(""))
        self._id = gr.State("")
        self.fields = {"history": self._history, "unique_id": self._id}
        #: `display` takes the HTML that scripts make of a chat; the page shows the chat itself.
        self.components = {
            **self.fields,
            "Chat input": gr.State(""),
            "interface_state": gr.State({}),
            "display": gr.State(""),
        }
        on(chat.change, self._opened, [chat], [self._history, self._id], latest=True)

    def _opened(self, chat: ChatRef) -> Updates:
        return {self._history: self._app.script_chats.history(chat.id), self._id: chat.id}
