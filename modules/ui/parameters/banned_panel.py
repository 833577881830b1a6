"""Banned strings: choose or save a list, see whether it can be used, and pick from the phrases that a model repeats.

It is part of the Parameters tab, below the knob. The services validate and count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from errors import InvalidInput, NothingToDo
from loaders.banned.entries import join_banned_strings, parse_banned_strings, write_entry
from loaders.banned.pattern import compile_banned_strings
from modules.app import App
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, on
from modules.ui.parts.file_menu import FileMenu
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr


class BannedPanel:
    """The panel. `banned` is the control of the knob."""

    def __init__(self, app: App, banned: Any) -> None:
        self._app = app
        self._banned = banned
        self.state = gr.HTML("", elem_id="banned-state", padding=False)
        self._menu = FileMenu(app.banned_lists, "list", "banned")
        with gr.Accordion(tr("banned.meter"), open=False, elem_classes="rest", elem_id="phrases"):
            self._count = gr.Button(tr("banned.count"), size="sm", elem_id="phrases-count")
            self._told = gr.HTML("", elem_id="phrases-state", padding=False)
            self._phrases = gr.CheckboxGroup(
                [], label=tr("banned.phrases"), elem_id="phrases-found", visible=False, info=tr("banned.phrases_info")
            )
            self._ban = gr.Button(tr("banned.ban"), size="sm", elem_id="phrases-ban", visible=False)

    def wire(self, page: gr.Blocks) -> list[Any]:
        """Connect the events. Returns the events after which the knob has another value."""
        on([self._banned.change, page.load], state_html, [self._banned], [self.state], latest=True)
        loaded = self._menu.wire(
            page, text=str, texts=[self._banned], loaded=lambda text, _: text, outputs=[self._banned]
        )
        on(self._count.click, self._counted, None, [self._told, self._phrases, self._ban])
        added = on(self._ban.click, self._add, [self._banned, self._phrases], [self._banned, self._phrases])
        return [loaded, added]

    def _counted(self) -> Updates:
        loaded = self._app.models.loaded
        found = self._app.phrases.count(loaded.name if loaded else "")
        if loaded and not found.replies:  # it has not written anything yet
            loaded, found = None, self._app.phrases.count()
        whose = loaded.name if loaded else tr("banned.all")
        told = tr("banned.counted", n=found.replies, chats=found.chats, model=whose)
        choices = [
            (tr("banned.phrase", text=each.text, n=each.replies, chats=each.chats), each.text) for each in found.phrases
        ]
        shown = bool(choices)
        told = told if shown else f"{told} {tr('banned.none')}"
        return {
            self._told: f"<p class='about'>{escape(told)}</p>",
            self._phrases: gr.update(choices=choices, value=[], visible=shown),
            self._ban: gr.update(visible=shown),
        }

    def _add(self, banned: str, picked: Sequence[str]) -> Updates:
        if not picked:
            raise NothingToDo(tr("banned.pick"))
        lines = "\n".join(write_entry(each) for each in picked)
        return {self._banned: join_banned_strings([banned or "", lines]), self._phrases: gr.update(value=[])}


def state_html(banned: str) -> str:
    """Whether the list can be used: how many entries it has, or what is wrong with it."""
    if not (banned or "").strip():
        return ""
    try:
        compile_banned_strings(banned, True)
    except InvalidInput as error:
        return f"<p class='warning' role='alert'>{escape(error_text(error))}</p>"
    return f"<p class='about'>{tr('banned.valid', n=len(parse_banned_strings(banned)))}</p>"
