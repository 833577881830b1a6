"""The Parameters tab. Its first page is generated from the declarations of the sampling parameters.

The values belong to this browser: they are stored in it, and every reply reads them from the controls. Presets, neutral
values and unsupported knobs come from the services and the declarations.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import gradio as gr

from errors import InvalidInput, UserError
from loaders.knobs import Knob
from loaders.params import GROUPS, SamplingParams
from modules.app import App
from modules.chat.own_settings import to_plain_values
from modules.ui.chat.own_panel import OwnNotice
from modules.ui.parameters import knob_controls
from modules.ui.parameters.banned_panel import BannedPanel
from modules.ui.parameters.character_page import CharacterPage
from modules.ui.parameters.grammar_panel import GrammarPanel
from modules.ui.parameters.preset_chips import presets_html
from modules.ui.parameters.template_page import TemplatePage
from modules.ui.parts.events import Updates, on, show_error, show_info, show_warning, then
from modules.ui.parts.formatting import escape, format_value
from modules.ui.parts.list_picker import make_picker, picker_chips
from modules.ui.texts import tr

log = logging.getLogger(__name__)

KNOBS: Mapping[str, Knob] = SamplingParams.knobs()


class ParametersTab:
    """The tab. `knobs` are the controls of all sampling parameters, in declaration order."""

    def __init__(self, app: App, kept: gr.BrowserState, kept_templates: gr.BrowserState) -> None:
        self._app = app
        self._start = start_params(app)
        self.kept = kept
        self._controls: dict[str, gr.components.Component] = {}
        self._grey_ones = gr.State([])  # names of knobs that the model cannot honour
        with gr.Tabs(elem_id="parameter-pages", elem_classes="pages", overflow_behavior="wrap"):
            with gr.Tab(tr("tab.generation"), id="generation", elem_id="generation", render_children=True):
                self.own_notice = OwnNotice()
                self._presets()
                self.differing = make_picker("differing", elem_classes="picker-chips")
                with gr.Column(elem_id="cards"):
                    for group in GROUPS:
                        self._card(group)
                gr.HTML(neutral_marks(), elem_id="neutral-marks")
                self.to_history = gr.Button(
                    tr("parameters.history"), size="sm", elem_id="to-history", elem_classes="quiet"
                )
            with gr.Tab(tr("tab.character"), id="character-page", elem_id="character-page"):
                self.characters = CharacterPage(app)
            with gr.Tab(tr("tab.template"), id="template-page", elem_id="template-page"):
                self.own_notice.add_templates()
                self.templates = TemplatePage(app, kept_templates)

    @property
    def knobs(self) -> list[gr.components.Component]:
        return [self._controls[name] for name in KNOBS]

    @property
    def named(self) -> dict[str, gr.components.Component]:
        """The controls by the names of their knobs."""
        return {name: self._controls[name] for name in KNOBS}

    def control(self, name: str) -> gr.components.Component:
        """The control of one knob."""
        return self._controls[name]

    def follow(self, event: Any) -> None:
        """After an event of another tab that has set controls: store their values in the browser, and mark them."""
        then(event, self._keep, self.knobs, [self.kept, self.differing], latest=True)

    # --- components ---

    def _presets(self) -> None:
        known = self._known_preset()
        self.chips = make_picker("presets", presets_html(self._app.presets, known))
        # never shown: what other tabs and extensions read the chosen preset from
        self.preset = gr.Dropdown(
            self._app.presets.names(), value=known, label=tr("parameters.preset"), visible=False
        )  # fmt: skip
        with gr.Row(elem_id="preset-bar"):
            with gr.Row(elem_id="preset-buttons"):
                self.refresh = gr.Button(tr("button.refresh"), size="sm", elem_id="preset-refresh")
                self.neutralize = gr.Button(tr("parameters.reset"), size="sm", elem_id="neutralize")
                self.save_as = gr.Button(tr("button.save_as"), size="sm", elem_id="preset-save")
                self.delete = gr.Button(tr("button.delete"), size="sm", elem_id="preset-delete")
            self.filter = gr.Textbox(
                label=tr("parameters.filter"), show_label=False, container=False,
                placeholder=tr("parameters.filter_hint"), elem_id="knob-filter",
            )  # fmt: skip
        with gr.Row(elem_id="preset-saving", elem_classes="asking", visible=False) as self.saving:
            self.name = gr.Textbox(label=tr("parameters.preset_name"), elem_id="preset-name", max_lines=1)
            self.save = gr.Button(tr("button.save"), variant="primary", size="sm", elem_id="preset-save-now")
            self.save_no = gr.Button(tr("button.cancel"), size="sm")
        with gr.Row(elem_id="preset-deleting", elem_classes="asking", visible=False) as self.deleting:
            self.question = gr.HTML("", elem_id="preset-question")
            self.delete_yes = gr.Button(tr("button.delete"), variant="stop", size="sm", elem_id="preset-delete-now")
            self.delete_no = gr.Button(tr("button.cancel"), size="sm")

    def _card(self, group: str) -> None:
        knobs = [knob for knob in KNOBS.values() if knob.group == group]
        folded = [knob for knob in knobs if knob.advanced]
        values = self._start.model_dump()
        with gr.Column(elem_id=f"card-{group}", elem_classes="card"):
            gr.HTML(knob_controls.group_head("knob_group", group), elem_classes="card-head")
            for knob in [*(each for each in knobs if not each.advanced), *folded]:
                made = knob_controls.make_control(knob, values[knob.name], folded=knob.advanced)
                self._controls[knob.name] = made
                if knob.name == "banned_strings":
                    self._banned = BannedPanel(self._app, made)
            if group == "grammar":
                self._grammar = GrammarPanel(self._app, made)
            if folded:
                more = gr.Button(
                    tr("parameters.more", n=len(folded)), size="sm", elem_id=f"more-{group}", elem_classes="more"
                )
                on(more.click, None, js=f"() => {{ Page.unfold('more-{group}'); }}")

    # --- events ---

    def wire(self, page: gr.Blocks, model: gr.State) -> None:
        """Connect the events. `model` changes with the model."""
        knobs, marked = self.knobs, [self.kept, self.differing]
        changed = [knob_controls.change_event(KNOBS[name], made) for name, made in self._controls.items()]
        on(changed, self._keep, knobs, marked, latest=True)
        on(page.load, self._restore, [self.kept], [*knobs, *marked, self._grey_ones])
        on(model.change, self._grey, [self._grey_ones], [*knobs, self._grey_ones])
        for event in (
            on(self.chips.click, self._load, knobs, [self.preset, self.chips, *knobs]),
            on(self.neutralize.click, self._neutralize, None, knobs),
            on(self.differing.click, self._neutral, None, knobs, several=True),
        ):
            then(event, self._keep, knobs, marked, latest=True)
        for event in (*self._grammar.wire(page), *self._banned.wire(page)):
            then(event, self._keep, knobs, marked, latest=True)
        on(self.refresh.click, self._refresh, [self.preset], [self.preset, self.chips])
        on(self.filter.change, None, [self.filter], js="(words) => { Page.filter(words); }")
        self._wire_files()

    def _wire_files(self) -> None:
        on(
            self.save_as.click,
            lambda name: {self.saving: gr.update(visible=True), self.name: name or ""},
            [self.preset],
            [self.saving, self.name],
        )
        saved = [self.preset, self.chips, self.saving]
        on([self.save.click, self.name.submit], self._save, [self.name, *self.knobs], saved)
        on(self.save_no.click, lambda: gr.update(visible=False), None, [self.saving])
        on(self.delete.click, self._ask, [self.preset], [self.question, self.deleting])
        on(self.delete_yes.click, self._delete, [self.preset], [self.preset, self.chips, self.deleting])
        on(self.delete_no.click, lambda: gr.update(visible=False), None, [self.deleting])

    def _keep(self, *values: Any) -> Updates:
        """Store the values in the browser, and mark what is not neutral."""
        params = knob_controls.params_from_controls(values)
        return {self.kept: to_plain_values(params), self.differing: differing_html(params)}

    def _restore(self, kept: Mapping[str, Any]) -> Updates:
        """The values stored in this browser; a new browser starts with the settings' preset."""
        params = self._start
        if kept:
            try:
                known = {name: value for name, value in kept.items() if name in KNOBS}
                params = SamplingParams.parse(known)
            except InvalidInput as error:  # stored by another version
                show_error(error)
        unsupported, shown = self._unsupported(), self._start.model_dump()
        made = knob_controls.control_updates(KNOBS.values(), params.model_dump(), unsupported, shown=shown)
        return {
            **knob_controls.changed_updates(self.knobs, made),
            self.kept: to_plain_values(params),
            self.differing: differing_html(params),
            self._grey_ones: [*unsupported],
        }

    def _grey(self, before: list[str]) -> Updates:
        unsupported = self._unsupported()
        made = knob_controls.grey_out(KNOBS.values(), unsupported, before)
        return {**knob_controls.changed_updates(self.knobs, made), self._grey_ones: [*unsupported]}

    def _load(self, event: gr.EventData, *values: Any) -> Updates:
        _, notes = self._app.presets.load(event.pick)
        for note in notes:
            show_warning(note)
        params = self._app.presets.apply(knob_controls.params_from_controls(values), event.pick)
        set_ones = {name: value for name, value in params.model_dump().items() if KNOBS[name].preset}
        return {**self._chosen(event.pick), **self._show(set_ones)}

    def _chosen(self, preset: str | None) -> Updates:
        """The chips and the menu, with this preset chosen."""
        return {
            self.preset: gr.update(choices=self._app.presets.names(), value=preset),
            self.chips: presets_html(self._app.presets, preset),
        }

    def _neutralize(self) -> Updates:
        """Reset preset parameters to neutral; others (length, seed, ...) do not change."""
        return self._show({knob.name: knob.neutral for knob in KNOBS.values() if knob.preset})

    def _neutral(self, event: gr.EventData) -> Updates:
        """Reset one knob to neutral, whatever the others are by now: several clicks may be on their way."""
        return self._show({event.pick: KNOBS[event.pick].neutral})

    def _refresh(self, preset: str) -> Updates:
        return self._chosen(preset if preset in self._app.presets.names() else None)

    def _save(self, name: str, *values: Any) -> Updates:
        self._app.presets.save(name.strip(), knob_controls.params_from_controls(values))
        show_info(tr("parameters.preset_saved", name=name.strip()))
        return {**self._chosen(name.strip()), self.saving: gr.update(visible=False)}

    def _ask(self, preset: str | None) -> Updates:
        if not preset:
            raise InvalidInput(tr("parameters.preset_choose"))
        question = tr("parameters.preset_ask", name=escape(preset))
        return {self.question: question, self.deleting: gr.update(visible=True)}

    def _delete(self, preset: str) -> Updates:
        self._app.presets.delete(preset)
        show_info(tr("parameters.preset_deleted", name=preset))
        return {**self._chosen(None), self.deleting: gr.update(visible=False)}

    def _show(self, values: Mapping[str, Any]) -> Updates:
        """Set the controls of these knobs, and no other: a late answer must not undo what was changed since."""
        made = knob_controls.control_updates([KNOBS[name] for name in values], values)
        return {self._controls[name]: update for name, update in zip(values, made, strict=True)}

    def _unsupported(self) -> Mapping[str, str]:
        model = self._app.models.loaded
        return model.unsupported if model else {}

    def _known_preset(self) -> str | None:
        preset = self._app.settings.preset
        return preset if preset in self._app.presets.names() else None


def start_params(app: App) -> SamplingParams:
    """The start values of a new browser."""
    try:
        return app.starting_params()
    except UserError as error:  # together, the values are out of bounds
        log.warning("The knobs start neutral: %s", error)
        return SamplingParams()


def differing_html(params: SamplingParams) -> str:
    """The knobs that are not neutral: chips that reset one when clicked, and marks beside the knobs."""
    values = params.model_dump()
    names = [knob.name for knob in KNOBS.values() if not knob.is_neutral(values[knob.name])]
    if not names:
        return f"<p>{tr('parameters.neutral')}</p>"
    chips = ((name, f"{name} {chip_value(name, values[name])}") for name in names)
    made = picker_chips(tr("parameters.changed_label"), chips, tr("parameters.reset_one"))
    marks = ",".join(f"#knob-{name}" for name in names)
    style = f"<style>:is({marks}) {{ --differs: 1 }}</style>"
    return f"<p>{tr('parameters.changed', n=len(names))}</p>{made}{style}"


def chip_value(name: str, value: Any) -> str:
    """A value, short enough for a chip."""
    return tr("parameters.changed_value") if KNOBS[name].kind in ("list", "str") else format_value(value)


def neutral_marks() -> str:
    """The neutral position on each slider, for the style sheet."""
    rules = []
    for knob in KNOBS.values():
        if knob.kind in ("int", "float") and knob.minimum is not None and knob.maximum is not None:
            low, high = knob_controls.slider_limits(knob, knob.neutral)
            rules.append(f"#knob-{knob.name} {{ --neutral-at: {(knob.neutral - low) / (high - low):.4f} }}")
    return f"<style>{''.join(rules)}</style>"
