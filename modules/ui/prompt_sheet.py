"""What the model got for a reply: a sheet over the conversation, with the exact text in colours and what made it.

It asks the service for the record of a reply; `sheet_html` is plain text made into HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.conversation import Message
from modules.chat.prompt_parts import Part
from modules.chat.records import Record
from modules.ui.chat_view import Place, facts_line
from modules.ui.events import on
from modules.ui.words import escape, number, parts, plural

#: How the parts are called in the legend, in its order.
_NAMES = {"system": "system", "user": "you", "assistant": "the model", "begun": "beginning of the reply"}


_LEFT_OUT = re.compile(r"^\d+ older ")  # said already


class PromptSheet:
    """The sheet. `open_for` shows it for a message; Close and Esc take it away."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_id="prompt-sheet", visible=False) as self.sheet:
            self.close = gr.Button("Close", elem_id="prompt-close", size="sm")
            self.html = gr.HTML("", elem_id="prompt-shown", padding=False)

    def wire(self) -> None:
        """Connect its own button."""
        on(self.close.click, lambda: gr.update(visible=False), None, [self.sheet])

    @property
    def shown(self) -> list[Any]:
        """What `open_for` returns values for."""
        return [self.sheet, self.html]

    def open_for(self, place: Place, message_id: str) -> list[Any]:
        """Show what the model got for a message. Raises: UserError."""
        message = self._app.chats.open(place.id).message(message_id)
        return [gr.update(visible=True), sheet_html(self._app.chats.record(place.id, message_id), message)]


def sheet_html(record: Record, message: Message) -> str:
    """The facts, the legend, and the prompt with each part on its own ground."""
    left_out = ""
    if record.left_out:
        verb = "is" if record.left_out == 1 else "are"
        left_out = (
            f"<p class='cut'>{plural(record.left_out, 'older message')} {verb} not in it: the prompt may have "
            f"{record.room:,} tokens.</p>"
        )
    notes = "".join(f"<p class='cut'>{escape(note)}</p>" for note in record.notes if not _LEFT_OUT.search(note))
    rows = "".join(f"<tr><th scope='row'>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in
                   _facts(record, message).items() if value)  # fmt: skip
    used = {part.kind for part in record.parts}
    legend = "".join(f"<li class='p-{kind}'>{name}</li>" for kind, name in _NAMES.items() if kind in used)
    return (
        f"<h2>What the model got</h2>{facts_line(message.meta)}"
        f"<table class='facts'><tbody>{rows}</tbody></table>"
        f"<ul class='legend' aria-label='Whose words'>{legend}<li>the template</li></ul>{left_out}{notes}"
        f"<pre class='sample' tabindex='0'>{_coloured(record.text, record.parts)}</pre>"
    )


def _facts(record: Record, message: Message) -> Mapping[str, str]:
    knobs = parts(*(f"{name} {number(value)}" for name, value in record.params.items()))
    seed = message.meta.get("seed")
    return {
        "Model": message.model,
        "Mode": parts(record.mode, record.character),
        "Template": record.template,
        "Prompt": f"{record.tokens:,} of at most {record.room:,} tokens",
        "Seed": str(seed) if isinstance(seed, int) and seed >= 0 else "",
        "Settings": knobs or "all neutral",
        "Stops at": parts(*(repr(each) for each in record.stop)),
    }


def _coloured(text: str, found: tuple[Part, ...]) -> str:
    pieces: list[str] = []
    at = 0
    for part in found:
        if part.start < at:  # one inside another: the outer one shows
            continue
        pieces.append(escape(text[at : part.start]))
        pieces.append(f"<span class='p-{escape(part.kind)}'>{escape(text[part.start : part.end])}</span>")
        at = part.end
    pieces.append(escape(text[at:]))
    return "".join(pieces)
