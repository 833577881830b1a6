"""The queue: which requests are running or waiting, their position and speed, and a button to stop each.

The page header's timer updates it. It shows all requests of the loaded model, from this page or another program.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from loaders.base import QueueEntry
from modules.app import App
from modules.ui.parts.events import on
from modules.ui.parts.formatting import escape, join_facts
from modules.ui.texts import tr

# The rows are redrawn every second: a press counts immediately, because the row may have changed before its release.
PICK = """
const pick = (event) => {
  const button = event.target.closest('[data-pick]');
  if (button && (event.type === 'pointerdown' || event.detail === 0)) trigger('click', {pick: button.dataset.pick});
};
element.addEventListener('pointerdown', pick);
element.addEventListener('click', pick);  // by the keyboard
"""


class QueueView:
    """The list. The page header fills `html`."""

    def __init__(self, app: App) -> None:
        self._app = app
        html = queue_html(app.generator.queue())
        self.html = gr.HTML(html, elem_id="queue-view", js_on_load=PICK, padding=False)
        on(self.html.click, self._cancel, several=True)

    def _cancel(self, event: gr.EventData) -> None:
        for entry in self._app.generator.queue():
            if str(entry.id) == event.pick:
                entry.cancel.set()


def queue_html(queue: Sequence[QueueEntry]) -> str:
    """The table, or a sentence if nothing is running."""
    if not queue:
        return f"<h2>{tr('queue.heading')}</h2><p>{tr('queue.empty')}</p>"
    rows = "".join(_row(entry) for entry in queue)
    return f"<h2>{tr('queue.heading')}</h2><ul>{rows}</ul>"


def _row(entry: QueueEntry) -> str:
    name = escape(entry.label or tr("queue.request", id=entry.id))
    place = tr({0: "queue.running", 1: "queue.next"}.get(entry.place, "queue.position"), n=entry.place)
    speed = tr("unit.tokens_second", n=entry.tokens_per_second) if entry.tokens_per_second else ""
    written = tr("queue.written", n=entry.new_tokens) if entry.new_tokens else ""
    facts = join_facts(place, tr("unit.prompt_tokens", n=entry.prompt_tokens), written, speed)
    return (
        f"<li><span><b>{name}</b><small>{escape(facts)}</small></span>"
        f"<button type='button' data-pick='{entry.id}' aria-label='{tr('queue.stop_one', name=name)}'>"
        f"{tr('button.stop')}</button></li>"
    )
