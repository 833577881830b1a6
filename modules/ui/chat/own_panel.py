"""What a chat keeps of its own: a part of the controls, a mark in the chat's head, and a notice in the Parameters tab.

The services store it and apply it to replies; here it is shown, set and reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import gradio as gr

from errors import NothingToDo
from loaders.knobs import Knob
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation
from modules.chat.own_settings import OwnSettings
from modules.chat.prompt_knobs import TEMPLATES, PromptKnobs
from modules.config.thinking_knobs import SWITCHES
from modules.ui.chat.view import ChatRef
from modules.ui.parameters.knob_controls import changed_updates, control_updates, params_from_controls
from modules.ui.parts.events import Updates, on
from modules.ui.parts.formatting import escape, format_value
from modules.ui.parts.list_picker import make_picker, picker_chips
from modules.ui.texts import knob_help, knob_label, tr

if TYPE_CHECKING:
    from modules.ui.chat.actions import ChatActions

_KNOBS: Mapping[str, Knob] = SamplingParams.knobs()
_SHAPING: Mapping[str, Knob] = PromptKnobs.knobs()
#: The chip of the system message; no knob has this name.
_SYSTEM = "system message"
#: What the chips of PromptKnobs begin with.
_PROMPT = "prompt."
#: In the menu of a switch: as in all chats.
_USUAL = "usual"
_ON, _OFF = "on", "off"
#: How many values the mark and the notice name.
_NAMED = 6


class OwnPanel:
    """The part of the controls."""

    def __init__(self) -> None:
        with gr.Column(elem_id="own-settings"):
            self.what = make_picker("own-what", elem_classes="picker-chips")
            with gr.Row(elem_classes="actions"):
                self.keep = gr.Button(tr("own.keep"), size="sm", elem_id="own-keep")
                self.keep_templates = gr.Button(tr("own.keep_templates"), size="sm", elem_id="own-keep-templates")
                self.reset = gr.Button(tr("own.reset"), size="sm", elem_id="own-reset", visible=False)
            self.system = gr.Textbox(
                "", label=tr("own.system"), lines=2, max_lines=8, elem_id="own-system", info=tr("own.system_info")
            )
            #: The menu of each switch of PromptKnobs.
            self.switches = {name: _switch_menu(_SHAPING[name]) for name in SWITCHES}

    def wire(self, actions: ChatActions, notice: OwnNotice, knobs: Sequence[Any], templates: Sequence[Any]) -> Any:
        """Connect both; `knobs`: the controls of all parameters; `templates`: the fields of the TEMPLATES, in their
        order. Returns the event that sets the knobs.
        """
        chat, outputs = actions.screen.chat, actions.screen.outputs
        edits = actions.app.edits

        def keep(chat: ChatRef, *values: Any) -> Conversation:
            return edits.keep_params(chat.id, params_from_controls(values), chat.revision)

        def reset(chat: ChatRef) -> Conversation:
            return edits.reset_settings(chat.id, chat.revision)

        def reset_one(chat: ChatRef, event: gr.EventData) -> Conversation:
            # without the revision: of several quick clicks, each counts
            if event.pick == _SYSTEM:
                return edits.set_system_message(chat.id, "")
            if event.pick.startswith(_PROMPT):
                return edits.shape_prompt(chat.id, {event.pick.removeprefix(_PROMPT): None})
            return edits.reset_param(chat.id, event.pick)

        def set_system(chat: ChatRef, text: str) -> Conversation | None:
            if (text or "").strip() == OwnSettings.of(actions.app.chats.open(chat.id)).system.strip():
                return None
            return edits.set_system_message(chat.id, text or "", chat.revision)

        def keep_templates(chat: ChatRef, *texts: str) -> Conversation:
            values = {name: text if (text or "").strip() else None for name, text in zip(TEMPLATES, texts, strict=True)}
            if not any(values.values()):
                raise NothingToDo(tr("own.no_templates"))
            return edits.shape_prompt(chat.id, values, chat.revision)

        def load(chat: ChatRef) -> Updates:
            params = OwnSettings.of(actions.app.chats.open(chat.id)).params or SamplingParams()
            return changed_updates(knobs, control_updates(_KNOBS.values(), params.model_dump()))

        changes: list[tuple[list[Any], Callable[..., Conversation | None], list[Any]]] = [
            ([self.keep.click, notice.keep.click], keep, [chat, *knobs]),
            ([self.reset.click, notice.reset.click], reset, [chat]),
            ([self.keep_templates.click], keep_templates, [chat, *templates]),
            ([self.system.blur], set_system, [chat, self.system]),
        ]
        # not `input`: gradio's menus report that twice for one choice, and the second would meet the first at work
        changes += [([menu.select], _switching(actions, name), [chat, menu]) for name, menu in self.switches.items()]
        for triggers, change, inputs in changes:
            on(triggers, actions.show_current_on_conflict(_showing(actions, change)), inputs, outputs)
        one = actions.show_current_on_conflict(_showing(actions, reset_one))
        on(self.what.click, one, [chat], outputs, several=True)
        return on(notice.load.click, load, [chat], list(knobs))


class OwnNotice:
    """The notices in the Parameters tab while the open chat has parameters or templates of its own."""

    def __init__(self) -> None:
        with gr.Row(elem_id="own-notice", visible=False) as self.row:
            self.text = gr.HTML("", elem_id="own-notice-text")
            self.load = gr.Button(tr("own.load"), size="sm", elem_id="own-notice-load")
            self.keep = gr.Button(tr("own.keep_here"), size="sm", elem_id="own-notice-keep")
            self.reset = gr.Button(tr("own.reset"), size="sm", elem_id="own-notice-reset")

    def add_templates(self) -> None:
        """Create the notice about templates, here."""
        self.templates = gr.HTML("", elem_id="own-templates", padding=False)


def _switch_menu(knob: Knob) -> gr.Dropdown:
    """What a chat may set of this knob, or leave as it is in all chats."""
    label = tr("own.of_chat", name=knob_label(knob, "prompt"))
    choices = [(tr("own.usual"), _USUAL), *((_value_label(knob, each), _choice(each)) for each in _values(knob))]
    return gr.Dropdown(
        choices, value=_USUAL, label=label, elem_id=f"own-{knob.name}", filterable=False,
        info=knob_help(knob, "prompt"),
    )  # fmt: skip


def _values(knob: Knob) -> Sequence[Any]:
    return (True, False) if knob.kind == "bool" else knob.choices


def _choice(value: Any) -> str:
    """A switch's value as one of its menu."""
    return (_ON if value else _OFF) if isinstance(value, bool) else str(value)


def _value_label(knob: Knob, value: Any) -> str:
    return format_value(value) if knob.kind == "bool" else tr(f"chat.{knob.name}_level.{value or 'default'}")


def chosen_switch(own: OwnSettings, name: str) -> str:
    """What the menu of a switch shows for a chat."""
    return _choice(own.prompt[name]) if name in own.prompt else _USUAL


def _switching(actions: ChatActions, name: str) -> Callable[..., Conversation | None]:
    """The action of a switch's menu."""

    def run(chat: ChatRef, choice: str) -> Conversation | None:
        if choice == chosen_switch(OwnSettings.of(actions.app.chats.open(chat.id)), name):
            return None
        value = {_USUAL: None, **{_choice(each): each for each in _values(_SHAPING[name])}}[choice]
        return actions.app.edits.shape_prompt(chat.id, {name: value}, chat.revision)

    return run


def _showing(actions: ChatActions, change: Callable[..., Conversation | None]) -> Callable[..., Updates]:
    @wraps(change)
    def run(chat: ChatRef, *given: Any) -> Updates:
        conversation = change(chat, *given)
        return actions.show(conversation, chat.earlier) if conversation else {}

    return run


def own_html(own: OwnSettings) -> str:
    """What a chat keeps: a sentence, and chips that reset one of it."""
    if not own:
        return f"<p>{tr('own.none')}</p>"
    values = own.params.differing() if own.params is not None else {}
    chips = [(name, f"{name} {_short(name, value)}") for name, value in values.items()]
    chips += [(f"{_PROMPT}{name}", text) for name, text in _shaped(own).items()]
    chips += [(_SYSTEM, tr("own.message"))] if own.system else []
    said = tr("own.kept", n=len(values)) if own.params is not None else tr("own.kept_others")
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


def templates_notice(own: OwnSettings) -> str:
    """The sentence above the templates of the Parameters tab."""
    named = [text for name, text in _shaped(own).items() if name in TEMPLATES]
    return f"<p>{tr('own.notice_templates', what=escape(', '.join(named)))}</p>" if named else ""


def _shaped(own: OwnSettings) -> dict[str, str]:
    """What a chat keeps of PromptKnobs, in words: "Enable thinking: off"; of a template, only which one it is."""
    found = {}
    for name, value in own.prompt.items():
        label = knob_label(_SHAPING[name], "prompt")
        found[name] = label if name in TEMPLATES else f"{label}: {_value_label(_SHAPING[name], value)}"
    return found


def _named(own: OwnSettings) -> str:
    """What a chat keeps, on one line."""
    values = own.params.differing() if own.params is not None else {}
    named = [f"{name} {_short(name, value)}" for name, value in values.items()]
    named = named if len(named) <= _NAMED else [*named[:_NAMED], "…"]
    named += _shaped(own).values()
    named += [tr("own.message")] if own.system else []
    return ", ".join(named) or tr("own.defaults")


def _short(name: str, value: Any) -> str:
    return tr("parameters.changed_value") if _KNOBS[name].kind in ("list", "str") else format_value(value)
