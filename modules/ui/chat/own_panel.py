"""What a chat keeps of its own: a part of the controls, a mark in the chat's head, and a notice in the Parameters tab.

The services store it and apply it to replies; here it is shown, set and reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import gradio as gr

from loaders.knobs import Knob
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation
from modules.chat.own_settings import OwnSettings
from modules.ui.chat.view import ChatRef
from modules.ui.parameters.knob_controls import changed_updates, control_updates, params_from_controls
from modules.ui.parts.events import Updates, on
from modules.ui.parts.formatting import escape, format_value
from modules.ui.parts.list_picker import make_picker, picker_chips
from modules.ui.texts import tr

if TYPE_CHECKING:
    from modules.ui.chat.actions import ChatActions

_KNOBS: Mapping[str, Knob] = SamplingParams.knobs()
#: The chip of the system message; no knob has this name.
_SYSTEM = "system message"
#: How many values the mark and the notice name.
_NAMED = 6


class OwnPanel:
    """The part of the controls."""

    def __init__(self) -> None:
        with gr.Column(elem_id="own-settings"):
            self.what = make_picker("own-what", elem_classes="picker-chips")
            with gr.Row(elem_classes="actions"):
                self.keep = gr.Button(tr("own.keep"), size="sm", elem_id="own-keep")
                self.reset = gr.Button(tr("own.reset"), size="sm", elem_id="own-reset", visible=False)
            self.system = gr.Textbox(
                "", label=tr("own.system"), lines=2, max_lines=8, elem_id="own-system", info=tr("own.system_info")
            )

    def wire(self, actions: ChatActions, notice: OwnNotice, knobs: Sequence[Any]) -> Any:
        """Connect both; `knobs`: the controls of all parameters. Returns the event that sets the knobs."""
        chat, outputs = actions.screen.chat, actions.screen.outputs
        edits = actions.app.edits

        def keep(chat: ChatRef, *values: Any) -> Conversation:
            return edits.keep_params(chat.id, params_from_controls(values), chat.revision)

        def reset(chat: ChatRef) -> Conversation:
            return edits.reset_settings(chat.id, chat.revision)

        def reset_one(chat: ChatRef, event: gr.EventData) -> Conversation:
            if event.pick == _SYSTEM:
                return edits.set_system_message(chat.id, "", chat.revision)
            params = OwnSettings.of(actions.app.chats.open(chat.id)).params or SamplingParams()
            knob = _KNOBS[event.pick]
            return edits.keep_params(chat.id, params.changed(**{knob.name: knob.default}), chat.revision)

        def set_system(chat: ChatRef, text: str) -> Conversation | None:
            if (text or "").strip() == OwnSettings.of(actions.app.chats.open(chat.id)).system.strip():
                return None
            return edits.set_system_message(chat.id, text or "", chat.revision)

        def load(chat: ChatRef) -> Updates:
            params = OwnSettings.of(actions.app.chats.open(chat.id)).params or SamplingParams()
            return changed_updates(knobs, control_updates(_KNOBS.values(), params.model_dump()))

        for triggers, change, inputs in (
            ([self.keep.click, notice.keep.click], keep, [chat, *knobs]),
            ([self.reset.click, notice.reset.click], reset, [chat]),
            ([self.what.click], reset_one, [chat]),
            ([self.system.blur], set_system, [chat, self.system]),
        ):
            on(triggers, actions.show_current_on_conflict(_showing(actions, change)), inputs, outputs)
        return on(notice.load.click, load, [chat], list(knobs))


class OwnNotice:
    """The notice in the Parameters tab while the open chat has parameters of its own."""

    def __init__(self) -> None:
        with gr.Row(elem_id="own-notice", visible=False) as self.row:
            self.text = gr.HTML("", elem_id="own-notice-text")
            self.load = gr.Button(tr("own.load"), size="sm", elem_id="own-notice-load")
            self.keep = gr.Button(tr("own.keep_here"), size="sm", elem_id="own-notice-keep")
            self.reset = gr.Button(tr("own.reset"), size="sm", elem_id="own-notice-reset")


def _showing(actions: ChatActions, change: Callable[..., Conversation | None]) -> Callable[..., Updates]:
    @wraps(change)
    def run(chat: ChatRef, *given: Any) -> Updates:
        conversation = change(chat, *given)
        return actions.show(conversation) if conversation else {}

    return run


def own_html(own: OwnSettings) -> str:
    """What a chat keeps: a sentence, and chips that reset one of it."""
    if not own:
        return f"<p>{tr('own.none')}</p>"
    values = own.params.differing() if own.params is not None else {}
    chips = [(name, f"{name} {_short(name, value)}") for name, value in values.items()]
    chips += [(_SYSTEM, tr("own.message"))] if own.system else []
    said = tr("own.kept", n=len(values)) if own.params is not None else tr("own.kept_message")
    return f"<p>{said}</p>{picker_chips(tr('own.chips'), chips, tr('own.reset_one'))}"


def own_mark(own: OwnSettings) -> str:
    """The mark in the head of a chat that keeps something; a click shows it in the controls."""
    if not own:
        return ""
    about = escape(tr("own.differs", what=_named(own)))
    return f"<button type='button' data-own title='{about}'>{tr('own.mark')}</button>"


def notice_html(own: OwnSettings) -> str:
    """The sentence in the Parameters tab."""
    return f"<p>{tr('own.notice', what=escape(_named(OwnSettings(own.params))))}</p>" if own.params is not None else ""


def _named(own: OwnSettings) -> str:
    """What a chat keeps, on one line."""
    values = own.params.differing() if own.params is not None else {}
    named = [f"{name} {_short(name, value)}" for name, value in values.items()]
    named = named if len(named) <= _NAMED else [*named[:_NAMED], "…"]
    named += [tr("own.message")] if own.system else []
    return ", ".join(named) or tr("own.defaults")


def _short(name: str, value: Any) -> str:
    return tr("parameters.changed_value") if _KNOBS[name].kind in ("list", "str") else format_value(value)
