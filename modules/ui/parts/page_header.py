"""The header above every tab: the loaded model, the queue, and the light/dark switch.

A timer checks the state every second. If nothing has changed, the response is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from errors import UserError
from loaders.base import QueueEntry
from modules.app import App
from modules.ui.parts.events import Updates, on
from modules.ui.parts.formatting import escape, format_gigabytes, format_thousands, join_facts, short_name
from modules.ui.parts.sentences import translated
from modules.ui.session.queue_view import queue_html
from modules.ui.texts import tr

#: Seconds between two checks: while something is running, and otherwise.
_QUICK, _CALM = 0.4, 1.5


@dataclass(frozen=True)
class News:
    """What a tab wants to know as soon as it changes: `look` is called with the values of `inputs`, `state` gets its
    result.
    """

    look: Callable[..., str]
    inputs: Sequence[Any]
    state: gr.State


@dataclass(frozen=True)
class HeaderState:
    """What a browser tab was last sent."""

    chip: str = ""
    queue: str = ""
    progress: str = ""
    entries: str = ""


class PageHeader:
    """The header. `model` changes when a model is loaded or unloaded: others listen to it."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Row(elem_id="bar"):
            self.queue = gr.HTML("", elem_id="queue")
            self.extensions = gr.Button(tr("header.extensions"), elem_id="extensions-switch", size="sm")
            self.chip = gr.Button("…", elem_id="chip", size="sm")  # until the page has asked
            self.theme = gr.Button(tr("header.theme"), elem_id="theme-switch", size="sm")
        self.timer = gr.Timer(_CALM)
        self.seen = gr.State(HeaderState())
        self.model = gr.State("")

    def wire(
        self,
        page: gr.Blocks,
        tabs: gr.Tabs,
        progress: gr.HTML,
        entries: gr.HTML,
        leads_to_model: Sequence[gr.Button],
        news: News,
    ) -> None:
        """Connect the events; `progress` is where the Model tab shows a load's progress, `entries` where the queue is
        shown.
        """
        on(self.theme.click, None, js="() => { Page.switchTheme(); }")
        for button in (self.chip, *leads_to_model):
            on(button.click, None, None, [tabs], js="() => ({__type__: 'update', selected: 'model'})")
        self._progress, self._entries = progress, entries
        self._news = news
        shown = [self.chip, self.queue, progress, entries, self.timer, self.seen, self.model, news.state]
        known = [self.seen, self.model, news.state, *news.inputs]
        on([self.timer.tick, page.load], self._look, known, shown, latest=True)

    def _look(self, seen: HeaderState, model: str, heard: str, *asked: Any) -> Updates:
        state = self._app.models.state
        queue = self._app.generator.queue()
        loaded = self._app.models.loaded
        warnings = (self._app.system_memory.warning(), loaded.warning() if loaded else "")
        told = join_facts(queue_text(queue), *map(translated, warnings))
        now = HeaderState(chip_text(self._app), told, progress_html(self._app), queue_html(queue))
        key = f"{state.phase} {state.name} {state.loader} {id(self._app.models.loaded)} {state.error}"
        news = self._news.look(*asked)
        if now == seen and key == model:
            return {} if news == heard else {self._news.state: news}
        quick = state.phase in ("loading", "unloading")
        texts = {
            self.chip: (seen.chip, now.chip),
            self.queue: (seen.queue, now.queue),
            self._progress: (seen.progress, now.progress),
            self._entries: (seen.entries, now.entries),
        }
        return {
            **{part: text for part, (before, text) in texts.items() if text != before},
            self.timer: gr.Timer(_QUICK if quick else _CALM),
            self.seen: now,
            self.model: key,
            self._news.state: news,
        }


def chip_text(app: App) -> str:
    """The model in a few words: "SmolLM2-135M-Instruct.Q4_1 · llama.cpp · 8k · 0.4 GB" of memory, then other models."""
    state = app.models.state
    if state.phase == "loading":
        return tr("header.loading_again" if state.again else "header.loading", share=state.fraction)
    if state.phase == "unloading":
        return tr("header.unloading")
    model = app.models.loaded
    if model is None:
        return tr("header.idle", name=short_name(state.idle)) if state.idle else tr("header.no_model")
    try:
        taken = model.memory or app.catalog.find(state.name).size
        size = format_gigabytes(taken) if taken else ""  # on a server, none here
    except UserError:  # its file was moved; the model is still loaded
        size = ""
    first = join_facts(short_name(state.name), state.loader, format_thousands(model.context_length), size)
    others = [each.name for each in app.models.memory.all if each.model is not model]
    return ", ".join([first, *map(short_name, others)])


def queue_text(queue: Sequence[QueueEntry]) -> str:
    """The queue: "2 running, 1 waiting"; empty if at most one reply is being written."""
    waiting = sum(each.place > 0 for each in queue)
    if len(queue) < 2:
        return ""
    running = tr("header.running", n=len(queue) - waiting)
    return f"{running}, {tr('header.waiting', n=waiting)}" if waiting else running


def progress_html(app: App) -> str:
    """A load's progress, as a bar with text; empty if there is none."""
    state = app.models.state
    if state.phase not in ("loading", "unloading"):
        return ""
    percent = round(state.fraction * 100)
    doing = f"{translated(state.again)} {translated(state.doing) or tr(f'header.phase.{state.phase}')}".strip()
    return (
        f"<div role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' aria-valuemax='100' "
        f"aria-label='{escape(tr('header.progress'))}'><span style='width:{percent}%'></span></div>"
        f"<p><b>{percent} %</b> {escape(short_name(state.name))}: {escape(doing)}</p>"
    )
