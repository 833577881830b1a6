"""How a chat is shown on the page: the values of all components that show it. What is done with it is chat_turns's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from errors import UserError
from modules.app import App
from modules.chat.conversation import Conversation
from modules.library.demo import NAME as DEMO
from modules.ui.chat_view import Place, chat_list, view, who_html
from modules.ui.chat_window import fitting, scope_of
from modules.ui.pictures import face_style
from modules.ui.words import escape

#: How many components `Screen.screen` returns values for.
SCREEN = 20

#: The style sheet shows the first word until there is text, then the second.
WORKING = (
    "<span role='status' class='working'><span class='reading'>Reading the prompt</span>"
    "<span class='writing'>Writing</span></span>"
)

WELCOME = (
    "<h2>What is on your mind?</h2><p>Write below. Everything stays on this machine: the model runs here, and your "
    "chats are files in the folder logs.</p>"
)
NO_MODEL = "<h2>No model is loaded</h2><p>A model is the file that does the writing. Choose one in the Model tab.</p>"
DEMO_NOTICE = (
    "This is SmolLM2 135M, a very small model to try things out with; its answers are often wrong."
    "<span class='more'> Choose a better one in the Model tab.</span>"
)


def shown(visible: bool, *, kept: bool = False) -> Any:
    """A component in the page, or not. `kept`: it stays there unseen, which is quicker to come back."""
    return gr.update(visible=visible or ("hidden" if kept else False))


class Screen:
    """What the page shows of a chat."""

    def __init__(self, app: App) -> None:
        self.app = app

    def _who(self, kind: str, character: str) -> tuple[str, Path | None]:
        """What the one who answers is called, and their picture."""
        if kind != "chat":
            return "Assistant", None
        try:
            who = self.app.characters.load(character)
        except UserError:  # its file was deleted; the chat is still there
            return character, None
        return who.name, who.picture

    def _character_menu(self, character: str) -> Any:
        """The menu with this one chosen: it may have come since the page was loaded, or its file may be gone."""
        names = self.app.characters.names()
        return gr.update(value=character, choices=names if character in names else [*names, character], visible=True)

    def screen(self, conversation: Conversation, mode: str = "") -> list[Any]:
        """Everything that shows a conversation, in the order of `ChatTab.screen`; `mode` is what the controls say."""
        now = view(conversation)
        path = conversation.path()
        kind, _, character = scope_of(now.place).partition("/")
        called, picture = self._who(kind, character)
        versions = conversation.versions(path[-1].id) if now.tail else []
        at = versions.index(path[-1].id) if versions else 0
        empty = not now.history and not now.tail
        writing = self.app.chats.writing(now.place.id) is not None
        loaded = self.app.models.state.phase != "none"
        return [
            replace(now.place, writing=writing),
            now.place.id,
            f"<h1>{escape(now.title)}</h1>{face_style('reply', called, picture)}",
            (WELCOME if loaded else NO_MODEL) if empty else "",
            now.history,
            now.tail,
            WORKING if writing else now.meta,
            shown((now.can_remove or len(versions) > 1) and not writing),
            gr.update(interactive=now.can_regenerate),
            gr.update(interactive=now.can_continue),
            shown(not writing),
            shown(writing, kept=True),
            chat_list(self.app.archive.around(now.place.id), now.place.id),
            fitting(mode, now.place) if mode else gr.skip(),
            self._character_menu(character) if kind == "chat" else gr.update(visible=False),
            gr.update(visible=len(versions) > 1, interactive=at > 0, value=f"‹ {at + 1} of {len(versions)}"),
            gr.update(visible=len(versions) > 1, interactive=at < len(versions) - 1),
            who_html(called, picture) if kind == "chat" else "",
            gr.update(value="Unpin" if conversation.pinned else "Pin", interactive=bool(conversation.revision)),
            shown(bool(path) and "prompt_tokens" in path[-1].meta),
        ]

    def look(self, place: Place) -> list[Any]:
        """What the model's coming and going changes here: the empty page, and the line above the input."""
        state = self.app.models.state
        empty = place.id and not self.app.chats.open(place.id).path()
        welcome = "" if not empty else NO_MODEL if state.phase == "none" else WELCOME
        if state.phase == "none":
            return [welcome, "No model is loaded.", shown(True)]
        if state.phase == "loaded" and state.name == DEMO:
            return [welcome, DEMO_NOTICE, shown(True)]
        return [welcome, "", shown(False)]
