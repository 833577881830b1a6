"""The bar that stands above every tab: the model chip, which always tells the truth, the queue, light and dark.

A timer asks every second how things stand. As long as nothing has changed it answers with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from errors import UserError
from loaders.base import QueueEntry
from modules.app import App
from modules.ui.events import on
from modules.ui.queue_view import queue_html
from modules.ui.words import escape, gigabytes, parts, short_name, thousands

#: Seconds between two looks: while something is under way, and else.
_QUICK, _CALM = 0.4, 1.5


@dataclass(frozen=True)
class Seen:
    """What a browser tab was told last."""

    chip: str = ""
    queue: str = ""
    progress: str = ""
    entries: str = ""


class Frame:
    """The bar. `model` changes when another model is there, or none: others listen to it."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Row(elem_id="bar"):
            self.queue = gr.HTML("", elem_id="queue")
            self.extensions = gr.Button("Extensions", elem_id="extensions-switch", size="sm")
            self.chip = gr.Button(chip_text(app), elem_id="chip", size="sm")
            self.theme = gr.Button("Light / dark", elem_id="theme-switch", size="sm")
        self.timer = gr.Timer(_CALM)
        self.seen = gr.State(Seen())
        self.model = gr.State("")

    def wire(
        self, page: gr.Blocks, tabs: gr.Tabs, progress: gr.HTML, entries: gr.HTML, leads_to_model: Sequence[gr.Button]
    ) -> None:
        """Connect it; `progress` is where the Model tab tells how a load is going, `entries` where the queue stands."""
        on(self.theme.click, None, js="() => { Page.switchTheme(); }")
        for button in (self.chip, *leads_to_model):
            on(button.click, None, None, [tabs], js="() => ({__type__: 'update', selected: 'model'})")
        shown = [self.chip, self.queue, progress, entries, self.timer, self.seen, self.model]
        on([self.timer.tick, page.load], self._look, [self.seen, self.model], shown, latest=True)

    def _look(self, seen: Seen, model: str) -> Any:
        state = self._app.models.state
        queue = self._app.generator.queue()
        loaded = self._app.models.loaded
        told = parts(queue_text(queue), self._app.machine.warning(), loaded.warning() if loaded else "")
        now = Seen(chip_text(self._app), told, progress_html(self._app), queue_html(queue))
        key = f"{state.phase} {state.name} {state.loader} {id(self._app.models.loaded)} {state.error}"
        if now == seen and key == model:
            return gr.skip()
        quick = state.phase in ("loading", "unloading")
        return [
            gr.skip() if now.chip == seen.chip else now.chip,
            gr.skip() if now.queue == seen.queue else now.queue,
            gr.skip() if now.progress == seen.progress else now.progress,
            gr.skip() if now.entries == seen.entries else now.entries,
            gr.Timer(_QUICK if quick else _CALM),
            now,
            key,
        ]


def chip_text(app: App) -> str:
    """The model in a few words: "SmolLM2-135M-Instruct.Q4_1 · llama.cpp · 8k · 0.4 GB" of memory."""
    state = app.models.state
    if state.phase == "loading":
        return f"loading {state.fraction:.0%}"
    if state.phase == "unloading":
        return "unloading"
    model = app.models.loaded
    if model is None:
        return "no model: choose one"
    try:
        size = gigabytes(model.memory or app.shelf.find(state.name).size)
    except UserError:  # its file was moved away meanwhile; the model is still there
        size = ""
    return parts(short_name(state.name), state.loader, thousands(model.context_length), size)


def queue_text(queue: Sequence[QueueEntry]) -> str:
    """The queue: "2 running, 1 waiting"; nothing while one reply at most is being written."""
    waiting = sum(each.place > 0 for each in queue)
    if len(queue) < 2:
        return ""
    return f"{len(queue) - waiting} running" + (f", {waiting} waiting" if waiting else "")


def progress_html(app: App) -> str:
    """How a load is going, as a bar with words; nothing when none is under way."""
    state = app.models.state
    if state.phase not in ("loading", "unloading"):
        return ""
    percent = round(state.fraction * 100)
    doing = state.doing or state.phase
    return (
        f"<div role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' aria-valuemax='100' "
        f"aria-label='Loading the model'><span style='width:{percent}%'></span></div>"
        f"<p><b>{percent} %</b> {escape(short_name(state.name))}: {escape(doing)}</p>"
    )
