"""The prompt of a reply, in a drawer beside the conversation: the exact text in colors, and what it was made from.

It asks the service for a reply's record; `prompt_html` converts it to HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import gradio as gr

from modules.app import App
from modules.chat.conversation import Message
from modules.chat.prompt.parts import PromptPart
from modules.chat.store.prompt_log import PromptRecord
from modules.families.saved_reply import split_reply
from modules.ui.chat.view import ChatRef, facts_line
from modules.ui.parts.events import Updates, on
from modules.ui.parts.formatting import escape, format_value, join_facts
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

#: The parts in the legend, in order.
_PARTS = ("system", "user", "assistant", "begun")

#: The most characters of the reply that the heading quotes.
_WORDS = 160
_LEFT_OUT = re.compile(r"^\d+ older ")  # shown elsewhere already


class PromptView:
    """The panel. `open_for` shows it for a message; Close and Esc hide it."""

    def __init__(self, app: App) -> None:
        self._app = app
        with gr.Column(elem_id="prompt-view", visible=False) as self.panel:
            with gr.Row(elem_id="prompt-head"):
                self.of = gr.HTML("", elem_id="prompt-of", padding=False)
                self.close = gr.Button(tr("button.close"), elem_id="prompt-close", size="sm")
            self.html = gr.HTML("", elem_id="prompt-shown", padding=False)

    def wire(self) -> None:
        """Connect the Close button."""
        on(self.close.click, lambda: gr.update(visible=False), None, [self.panel])

    @property
    def outputs(self) -> list[Any]:
        """The outputs of `open_for`."""
        return [self.panel, self.of, self.html]

    def open_for(self, chat: ChatRef, message_id: str) -> Updates:
        """Show the prompt of a message. Raises: UserError."""
        message = self._app.chats.open(chat.id).message(message_id)
        record = self._app.chats.record(chat.id, message_id)
        return {
            self.panel: gr.update(visible=True),
            self.of: heading_html(message),
            self.html: prompt_html(record, message),
        }


def heading_html(message: Message) -> str:
    """The heading, with the reply's first words."""
    words = " ".join(split_reply(message.text).answer.split())
    of = f"<p>{escape(tr('chat.prompt_of', text=words[:_WORDS]))}</p>" if words else ""
    return f"<h2>{tr('chat.prompt_title')}</h2>{of}"


def prompt_html(record: PromptRecord, message: Message) -> str:
    """The facts, the legend, and the prompt with each part highlighted."""
    left_out = ""
    if record.left_out:
        left_out = f"<p class='cut'>{tr('chat.prompt_left_out', n=record.left_out, room=record.room)}</p>"
    notes = "".join(
        f"<p class='cut'>{escape(translated(note))}</p>" for note in record.notes if not _LEFT_OUT.search(note)
    )
    rows = "".join(f"<tr><th scope='row'>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in
                   _facts(record, message).items() if value)  # fmt: skip
    used = {part.kind for part in record.parts}
    legend = "".join(f"<li class='p-{kind}'>{tr(f'chat.prompt_part.{kind}')}</li>" for kind in _PARTS if kind in used)
    return (
        f"{facts_line(message.meta)}"
        f"<table class='facts'><tbody>{rows}</tbody></table>"
        f"<ul class='legend' aria-label='{escape(tr('chat.prompt_legend'))}'>{legend}"
        f"<li>{tr('chat.prompt_part.template')}</li></ul>{left_out}{notes}"
        f"<pre class='sample' tabindex='0'>{_coloured(record.text, record.parts)}</pre>"
    )


def _facts(record: PromptRecord, message: Message) -> Mapping[str, str]:
    knobs = join_facts(*(f"{name} {format_value(value)}" for name, value in record.params.items()))
    seed = message.meta.get("seed")
    return {
        tr("chat.prompt_row.model"): message.model,
        tr("chat.prompt_row.mode"): join_facts(record.mode, record.character),
        tr("chat.prompt_row.template"): translated(record.template),
        tr("chat.prompt_row.prompt"): tr("chat.prompt_size", tokens=record.tokens, room=record.room),
        tr("chat.prompt_row.seed"): str(seed) if isinstance(seed, int) and seed >= 0 else "",
        tr("chat.prompt_row.settings"): knobs or tr("chat.prompt_neutral"),
        tr("chat.prompt_row.stop"): join_facts(*(repr(each) for each in record.stop)),
    }


def _coloured(text: str, found: tuple[PromptPart, ...]) -> str:
    pieces: list[str] = []
    at = 0
    for part in found:
        if part.start < at:  # nested: only the outer one is shown
            continue
        pieces.append(escape(text[at : part.start]))
        pieces.append(f"<span class='p-{escape(part.kind)}'>{escape(text[part.start : part.end])}</span>")
        at = part.end
    pieces.append(escape(text[at:]))
    return "".join(pieces)
