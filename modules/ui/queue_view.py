"""The queue: who is being answered, who waits and at which place, how fast, and a button that ends each.

The frame's timer keeps it true. It shows the loaded model's own list, whoever asked: this page or another program.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from loaders.base import QueueEntry
from modules.app import App
from modules.ui.events import on
from modules.ui.words import escape, parts, plural

# The rows are drawn anew every second: a press counts at once, for the row may be another by the time of its release.
PICK = """
const pick = (event) => {
  const button = event.target.closest('[data-pick]');
  if (button && (event.type === 'pointerdown' || event.detail === 0)) trigger('click', {pick: button.dataset.pick});
};
element.addEventListener('pointerdown', pick);
element.addEventListener('click', pick);  // by the keyboard
"""


class QueueView:
    """The list. `html` is what the frame fills."""

    def __init__(self, app: App) -> None:
        self._app = app
        html = queue_html(app.generator.queue())
        self.html = gr.HTML(html, elem_id="queue-view", js_on_load=PICK, padding=False)
        on(self.html.click, self._cancel)

    def _cancel(self, event: gr.EventData) -> None:
        for entry in self._app.generator.queue():
            if str(entry.id) == event.pick:
                entry.cancel.set()


def queue_html(queue: Sequence[QueueEntry]) -> str:
    """The table, with a sentence where nothing is under way."""
    if not queue:
        return "<h3>Queue</h3><p>Nothing is being written right now.</p>"
    rows = "".join(_row(entry) for entry in queue)
    return f"<h3>Queue</h3><ul>{rows}</ul>"


def _row(entry: QueueEntry) -> str:
    name = escape(entry.label or f"request {entry.id}")
    place = "running" if entry.place == 0 else "next" if entry.place == 1 else f"place {entry.place}"
    speed = f"{entry.tokens_per_second:.0f} tokens/s" if entry.tokens_per_second else ""
    written = plural(entry.new_tokens, "token") + " written" if entry.new_tokens else ""
    facts = parts(place, plural(entry.prompt_tokens, "prompt token"), written, speed)
    return (
        f"<li><span><b>{name}</b><small>{escape(facts)}</small></span>"
        f"<button type='button' data-pick='{entry.id}' aria-label='End {name}'>End</button></li>"
    )
