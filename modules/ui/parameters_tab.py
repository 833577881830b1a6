"""The Parameters tab: how a reply is drawn. Its first page is made from the declarations of the sampling knobs.

The values belong to this browser: they are kept in it, and every reply takes them from the controls. What a preset
holds, what is neutral and what the model cannot honour is asked of the services and the declarations.
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
from modules.ui import knob_controls
from modules.ui.character_page import CharacterPage
from modules.ui.events import on, report, say, tell, then
from modules.ui.grammar_panel import GrammarPanel
from modules.ui.picker import chips, picker
from modules.ui.template_page import TemplatePage
from modules.ui.words import escape, number, plural

log = logging.getLogger(__name__)

KNOBS: Mapping[str, Knob] = SamplingParams.knobs()


class ParametersTab:
    """The tab. `knobs` are the controls of all sampling knobs, in the order of their declaration."""

    def __init__(self, app: App, kept: gr.BrowserState, kept_templates: gr.BrowserState) -> None:
        self._app = app
        self._start = start_params(app)
        self.kept = kept
        self._controls: dict[str, gr.components.Component] = {}
        self._grey_ones = gr.State([])  # names of knobs that the model cannot honour
        with gr.Tabs(elem_id="parameter-pages", elem_classes="pages"):
            with gr.Tab("Generation", id="generation", elem_id="generation", render_children=True):
                self._presets()
                self.differing = picker("differing", elem_classes="picker-chips")
                with gr.Column(elem_id="cards"):
                    for group, (title, sentence) in GROUPS.items():
                        self._card(group, title, sentence)
                gr.HTML(neutral_marks(), elem_id="neutral-marks")
            with gr.Tab("Character", id="character-page", elem_id="character-page"):
                self.characters = CharacterPage(app)
            with gr.Tab("Instruction template", id="template-page", elem_id="template-page"):
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
        """After an event of another tab that has set controls: keep their values in the browser, and mark them."""
        then(event, self._keep, self.knobs, [self.kept, self.differing])

    # --- what it is made of ---

    def _presets(self) -> None:
        with gr.Row(elem_id="preset-bar"):
            self.preset = gr.Dropdown(
                self._app.presets.names(), value=self._known_preset(), label="Preset", elem_id="preset"
            )
            with gr.Row(elem_id="preset-buttons"):
                self.refresh = gr.Button("Refresh", size="sm", elem_id="preset-refresh")
                self.neutralize = gr.Button("Neutralize", size="sm", elem_id="neutralize")
                self.save_as = gr.Button("Save as", size="sm", elem_id="preset-save")
                self.delete = gr.Button("Delete", size="sm", elem_id="preset-delete")
            self.filter = gr.Textbox(
                label="Filter", show_label=False, container=False, placeholder="Filter the knobs", elem_id="knob-filter"
            )
        with gr.Row(elem_id="preset-saving", elem_classes="asking", visible=False) as self.saving:
            self.name = gr.Textbox(label="Save the preset as", elem_id="preset-name", max_lines=1)
            self.save = gr.Button("Save", variant="primary", size="sm", elem_id="preset-save-now")
            self.save_no = gr.Button("Cancel", size="sm")
        with gr.Row(elem_id="preset-deleting", elem_classes="asking", visible=False) as self.deleting:
            self.question = gr.HTML("", elem_id="preset-question")
            self.delete_yes = gr.Button("Delete the preset", variant="stop", size="sm", elem_id="preset-delete-now")
            self.delete_no = gr.Button("Keep it", size="sm")

    def _card(self, group: str, title: str, sentence: str) -> None:
        knobs = [knob for knob in KNOBS.values() if knob.group == group]
        folded = [knob for knob in knobs if knob.advanced]
        values = self._start.model_dump()
        with gr.Column(elem_id=f"card-{group}", elem_classes="card"):
            gr.HTML(f"<h2>{title}</h2><p>{sentence}</p>", elem_classes="card-head")
            for knob in [*(each for each in knobs if not each.advanced), *folded]:
                made = knob_controls.control(knob, values[knob.name], folded=knob.advanced)
                self._controls[knob.name] = made
            if group == "grammar":
                self._grammar = GrammarPanel(self._app, made)
            if folded:
                more = gr.Button(f"{len(folded)} more", size="sm", elem_id=f"more-{group}", elem_classes="more")
                on(more.click, None, js=f"() => {{ Page.unfold('more-{group}'); }}")

    # --- what it does ---

    def wire(self, page: gr.Blocks, model: gr.State) -> None:
        """Connect it. `model` changes with the model."""
        knobs, marked = self.knobs, [self.kept, self.differing]
        changed = [knob_controls.changed(KNOBS[name], made) for name, made in self._controls.items()]
        on(changed, self._keep, knobs, marked, latest=True)
        on(page.load, self._restore, [self.kept], [*knobs, *marked, self._grey_ones])
        on(model.change, self._grey, [self._grey_ones], [*knobs, self._grey_ones])
        for event in (
            on(self.preset.input, self._load, [self.preset, *knobs], knobs),
            on(self.neutralize.click, self._neutralize, knobs, knobs),
            on(self.differing.click, self._neutral, knobs, knobs),
        ):
            then(event, self._keep, knobs, marked)
        for event in self._grammar.wire(page):
            then(event, self._keep, knobs, marked)
        on(self.refresh.click, self._refresh, [self.preset], [self.preset])
        on(self.filter.change, None, [self.filter], js="(words) => { Page.filter(words); }")
        self._wire_files()

    def _wire_files(self) -> None:
        on(
            self.save_as.click,
            lambda name: [gr.update(visible=True), name or ""],
            [self.preset],
            [self.saving, self.name],
        )
        saved = [self.preset, self.saving]
        on([self.save.click, self.name.submit], self._save, [self.name, *self.knobs], saved)
        on(self.save_no.click, lambda: gr.update(visible=False), None, [self.saving])
        on(self.delete.click, self._ask, [self.preset], [self.question, self.deleting])
        on(self.delete_yes.click, self._delete, [self.preset], [self.preset, self.deleting])
        on(self.delete_no.click, lambda: gr.update(visible=False), None, [self.deleting])

    def _keep(self, *values: Any) -> list[Any]:
        """Remember the values in the browser, and mark what is not neutral."""
        params = knob_controls.params_from(values)
        return [plain(params), differing_html(params)]

    def _restore(self, kept: Mapping[str, Any]) -> list[Any]:
        """The values that this browser kept; a new one begins with the settings' preset."""
        params = self._start
        if kept:
            try:
                known = {name: value for name, value in kept.items() if name in KNOBS}
                params = SamplingParams.parse(known)
            except InvalidInput as error:  # kept by another version
                report(error)
        unsupported, shown = self._unsupported(), self._start.model_dump()
        made = knob_controls.updates(KNOBS.values(), params.model_dump(), unsupported, shown=shown)
        return [*made, plain(params), differing_html(params), [*unsupported]]

    def _grey(self, before: list[str]) -> list[Any]:
        unsupported = self._unsupported()
        return [*knob_controls.greyed(KNOBS.values(), unsupported, before), [*unsupported]]

    def _load(self, preset: str, *values: Any) -> list[Any]:
        _, notes = self._app.presets.load(preset)
        for note in notes:
            tell(note)
        return self._show(self._app.presets.apply(knob_controls.params_from(values), preset))

    def _neutralize(self, *values: Any) -> list[Any]:
        """What presets hold becomes neutral; the rest (length, seed, ...) stays."""
        params = knob_controls.params_from(values)
        return self._show(params.changed(**{k.name: k.neutral for k in KNOBS.values() if k.preset}))

    def _neutral(self, event: gr.EventData, *values: Any) -> list[Any]:
        """One knob becomes neutral."""
        knob = KNOBS[event.pick]
        return self._show(knob_controls.params_from(values).changed(**{knob.name: knob.neutral}))

    def _refresh(self, preset: str) -> Any:
        names = self._app.presets.names()
        return gr.update(choices=names, value=preset if preset in names else None)

    def _save(self, name: str, *values: Any) -> list[Any]:
        self._app.presets.save(name.strip(), knob_controls.params_from(values))
        say(f"The preset {name.strip()} is saved.")
        return [gr.update(choices=self._app.presets.names(), value=name.strip()), gr.update(visible=False)]

    def _ask(self, preset: str | None) -> list[Any]:
        if not preset:
            raise InvalidInput("Choose the preset that is to be deleted first.")
        return [f"Delete the preset <b>{escape(preset)}</b>? Its file is removed.", gr.update(visible=True)]

    def _delete(self, preset: str) -> list[Any]:
        self._app.presets.delete(preset)
        say(f"The preset {preset} is deleted.")
        return [gr.update(choices=self._app.presets.names(), value=None), gr.update(visible=False)]

    def _show(self, params: SamplingParams) -> list[Any]:
        return knob_controls.updates(KNOBS.values(), params.model_dump())

    def _unsupported(self) -> Mapping[str, str]:
        model = self._app.models.loaded
        return model.unsupported if model else {}

    def _known_preset(self) -> str | None:
        preset = self._app.settings.preset
        return preset if preset in self._app.presets.names() else None


def start_params(app: App) -> SamplingParams:
    """What a new browser begins with."""
    try:
        return app.starting_params()
    except UserError as error:  # the preset of the settings is not there
        log.warning("The knobs start neutral: %s", error)
        return SamplingParams()


def plain(params: SamplingParams) -> dict[str, Any]:
    """The values that are not the defaults, as JSON can hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.differing().items()}


def differing_html(params: SamplingParams) -> str:
    """What is not neutral: chips, of which a click makes one neutral, and marks beside the knobs."""
    values = params.model_dump()
    names = [knob.name for knob in KNOBS.values() if not knob.is_neutral(values[knob.name])]
    if not names:
        return "<p>All knobs are neutral: the model's own distribution is used.</p>"
    made = chips(
        "Knobs that are not neutral", ((n, f"{n} {chip_value(n, values[n])}") for n in names), "make it neutral"
    )
    marks = ",".join(f"#knob-{name}" for name in names)
    style = f"<style>:is({marks}) {{ --differs: 1 }}</style>"
    return f"<p>{plural(len(names), 'knob')} not neutral. A click on one makes it neutral.</p>{made}{style}"


def chip_value(name: str, value: Any) -> str:
    """A value as it fits on a chip."""
    return "changed" if KNOBS[name].kind in ("list", "str") else number(value)


def neutral_marks() -> str:
    """Where the neutral value lies on each slider, for the style sheet."""
    rules = []
    for knob in KNOBS.values():
        if knob.kind in ("int", "float") and knob.minimum is not None and knob.maximum is not None:
            low, high = knob_controls.limits(knob, knob.neutral)
            rules.append(f"#knob-{knob.name} {{ --neutral-at: {(knob.neutral - low) / (high - low):.4f} }}")
    return f"<style>{''.join(rules)}</style>"
