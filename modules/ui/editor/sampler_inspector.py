"""The sub-tabs Logits and Samplers: the model's distribution at the cursor, and what the samplers do to it.

Inspect runs the model once, and so does an open view by itself at each pause of typing; all other changes are computed
from its logits. The cursor's position comes from the page's script, the text from the draft. This module must not know
which tab it is in, nor any knob by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from errors import Cancelled, EmptyPrompt, UserError
from loaders.params import SamplingParams
from modules.app import App
from modules.generation.sampler_trace import trace_samplers
from modules.prompts.line_ends import exact_position
from modules.ui.editor import sampler_flow, top_tokens
from modules.ui.editor.text_editor import TextEditor
from modules.ui.parameters import knob_controls
from modules.ui.parameters.tab import KNOBS, ParametersTab
from modules.ui.parts.error_text import error_text
from modules.ui.parts.events import Updates, Values, on, then
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr

_RAW, _SAMPLED = "raw", "sampled"

#: The knobs with a slider below the chart: those that most people use to shape a distribution.
SLIDER_KNOBS = tuple(
    knob
    for knob in KNOBS.values()
    if knob.group in ("randomness", "truncation") and not knob.advanced and knob.kind in ("int", "float")
)


@dataclass(frozen=True)
class InspectorState:
    """The ids of the last two snapshots; 0 is none. `place`: of which text and model the last one is."""

    now: int = 0
    before: int = 0
    place: str = ""


@dataclass(frozen=True)
class InspectRow:
    """The row above a result: Inspect, the button that the page's script presses, and the choice of the text."""

    button: gr.Button
    now: gr.Button
    choice: gr.Radio


class SamplerInspector:
    """Both sub-tabs. `editors` are the texts that can be inspected, by the names that users choose them by."""

    def __init__(self, app: App, prefix: str, editors: Mapping[str, TextEditor]) -> None:
        self._app = app
        self._prefix = prefix
        self._editors = editors
        self._rows: dict[str, InspectRow] = {}

    # --- components ---

    def add_logits(self) -> None:
        """Fill the sub-tab Logits."""
        self._state = gr.State(InspectorState())
        self._caret = gr.Number(-1, visible=False)
        self._add_inspect_row("logits")
        with gr.Row(elem_classes="asking-row"):
            self._kind = gr.Radio(
                [(tr("editor.before_samplers"), _RAW), (tr("editor.after_samplers"), _SAMPLED)], value=_SAMPLED,
                label=tr("editor.distribution"), show_label=False, container=False,
                elem_id=f"{self._prefix}-kind", elem_classes="plain-radio",
            )  # fmt: skip
            self._count = gr.Dropdown(
                [(tr("unit.tokens", n=count), count) for count in (10, 25, 50, 250)], value=25,
                label=tr("editor.tokens_shown"), show_label=False, container=False, filterable=False,
                elem_id=f"{self._prefix}-count", elem_classes="short",
            )  # fmt: skip
        self._top_tokens = gr.HTML(top_tokens.hint_html(), elem_id=f"{self._prefix}-top-tokens", padding=False)

    def add_samplers(self) -> None:
        """Fill the sub-tab Samplers."""
        self._add_inspect_row("samplers")
        self._flow = gr.HTML(sampler_flow.hint_html(), elem_id=f"{self._prefix}-flow", padding=False)
        with gr.Row(elem_classes="steering", elem_id=f"{self._prefix}-steering"):
            prefix = f"{self._prefix}-steer"
            self._sliders = [knob_controls.make_control(knob, knob.default, prefix=prefix) for knob in SLIDER_KNOBS]

    def _add_inspect_row(self, where: str) -> None:
        """The row above the result: the button Inspect, and the choice of the text."""
        with gr.Row(elem_classes="asking-row"):
            self._rows[where] = InspectRow(
                gr.Button(tr("editor.inspect"), variant="primary", size="sm", elem_id=f"{self._prefix}-look-{where}"),
                gr.Button("", visible="hidden", elem_id=f"{self._prefix}-now-{where}"),  # pressed by editors.js
                text_choice(self._editors, f"{self._prefix}-text-{where}"),
            )

    # --- events ---

    def wire(self, parameters: ParametersTab, logits: gr.Tab, samplers: gr.Tab) -> None:
        """Connect the events; the charts are updated when their sub-tab is opened."""
        self._knobs = parameters.knobs
        self._slider_targets = [parameters.control(knob.name) for knob in SLIDER_KNOBS]
        shown = {self._state, self._kind, self._count, *self._knobs}
        pictures = [self._top_tokens, self._flow]
        on([self._kind.input, self._count.input], self._redraw, shown, [self._top_tokens])
        opened = {
            "logits": on(logits.select, self._redraw, shown, [self._top_tokens]),
            "samplers": on(samplers.select, self._open, shown, [*self._sliders, *pictures]),
        }
        outputs, script = [self._state, *pictures], self._caret_script()
        for where, row in self._rows.items():
            inspect, inputs = self._make_inspect(row.choice, shown, self._inspect)
            on(row.button.click, inspect, inputs, outputs, js=script, latest=True)  # a question, not an action
            follow, _ = self._make_inspect(row.choice, shown, self._follow)
            on([row.now.click, row.choice.input], follow, inputs, outputs, js=script, latest=True)
            then(opened[where], follow, inputs, outputs, js=script)
        moved = on([control.input for control in self._sliders], self._apply_slider, shown | set(self._sliders),
                   [*self._slider_targets, *pictures], latest=True)  # fmt: skip
        parameters.follow(moved)

    def _caret_script(self) -> str:
        """The script that adds the cursor's position in the chosen text."""
        fields = {name: editor.field.elem_id for name, editor in self._editors.items()}
        return f"(caret, which, ...rest) => [Page.caret(({fields})[which]), which, ...rest]"

    def _make_inspect(
        self, choice: gr.Radio, shown: set[Any], look: Callable[[TextEditor, Values], Updates]
    ) -> tuple[Callable[..., Updates], list[Any]]:
        """The handler that looks at the chosen text, and its inputs, of which the browser sets the first two."""
        texts = [part for editor in self._editors.values() for part in (editor.state, editor.field)]
        inputs = [self._caret, choice, *texts, *shown]

        def inspect(*given: Any) -> Updates:
            values = dict(zip(inputs, given, strict=True))
            return look(self._editors[values[choice]], values)

        return inspect, inputs

    def _inspect(self, editor: TextEditor, values: Values) -> Updates:
        """Run the model; another place than the one before is compared with that."""
        text, place = self._text(editor, values)
        seen: InspectorState = values[self._state]
        return self._computed(
            editor, values, text, InspectorState(0, seen.before if place == seen.place else seen.now, place)
        )

    def _follow(self, editor: TextEditor, values: Values) -> Updates:
        """Run the model by itself, if the place is another one; what stands in the way is told where the result would
        be.
        """
        text, place = self._text(editor, values)
        seen: InspectorState = values[self._state]
        if seen.now and place == seen.place:
            return self._pictures(values, self._params(values))
        try:
            return self._computed(editor, values, text, InspectorState(0, seen.before, place))
        except Cancelled:  # by the next one
            return {}
        except EmptyPrompt:
            return {self._top_tokens: top_tokens.hint_html(), self._flow: sampler_flow.hint_html()}
        except UserError as error:
            return dict.fromkeys((self._top_tokens, self._flow), f"<p class='hint'>{escape(error_text(error))}</p>")

    def _text(self, editor: TextEditor, values: Values) -> tuple[str, str]:
        """The text up to the cursor, and a name for it with this model."""
        text, caret = editor.exact_text(values[editor.state], values[editor.field]), values[self._caret]
        if caret >= 0:
            text = text[: exact_position(text, int(caret))]
        return text, f"{self._app.models.state.name} {hash(text)}"

    def _computed(self, editor: TextEditor, values: Values, text: str, state: InspectorState) -> Updates:
        # the page's own name: a new request ends the one before, but nobody else's
        who = f"{self._prefix.capitalize()} ({values[editor.state].writer})"
        params = self._params(values)
        inspected = replace(state, now=self._app.snapshots.compute(text, params, who=who).id)
        return {self._state: inspected, **self._pictures({**values, self._state: inspected}, params)}

    def _redraw(self, values: Values) -> str:
        return self._top_tokens_html(values, self._params(values))

    def _open(self, values: Values) -> Updates:
        """Update sliders and pictures from the knobs."""
        params, model = self._params(values), self._app.models.loaded
        sliders = knob_controls.control_updates(SLIDER_KNOBS, params.model_dump(), model.unsupported if model else {})
        return {**dict(zip(self._sliders, sliders, strict=True)), **self._pictures(values, params)}

    def _apply_slider(self, values: Values) -> Updates:
        """Set the knob of a slider that was moved, and update the pictures from the same logits."""
        moved = {knob.name: values[control] for knob, control in zip(SLIDER_KNOBS, self._sliders, strict=True)}
        params = self._params(values).changed(**{name: value for name, value in moved.items() if value is not None})
        knobs = {
            control: getattr(params, knob.name)
            for knob, control in zip(SLIDER_KNOBS, self._slider_targets, strict=True)
        }
        return {**knobs, **self._pictures(values, params)}

    def _params(self, values: Values) -> SamplingParams:
        return knob_controls.params_from_controls([values[knob] for knob in self._knobs])

    def _pictures(self, values: Values, params: SamplingParams) -> Updates:
        now = values[self._state].now
        if not now:
            return {}
        flow = sampler_flow.sampler_flow_html(trace_samplers(self._app.snapshots.get(now), params))
        return {self._top_tokens: self._top_tokens_html(values, params), self._flow: flow}

    def _top_tokens_html(self, values: Values, params: SamplingParams) -> str:
        inspected: InspectorState = values[self._state]
        snapshots = [self._app.snapshots.get(number) for number in (inspected.now, inspected.before) if number]
        if not snapshots:
            return top_tokens.hint_html()
        sampled, count = values[self._kind] == _SAMPLED, values[self._count]
        shown = [(each, each.distribution(params, sampled=sampled, count=count)) for each in snapshots]
        return top_tokens.top_tokens_html(shown[0], shown[1] if len(shown) > 1 else None)


def text_choice(editors: Mapping[str, TextEditor] | Sequence[str], elem_id: str) -> gr.Radio:
    """The choice of a text; hidden if there is only one."""
    names = list(editors)
    return gr.Radio(
        [(tr(f"editor.{name.lower()}"), name) for name in names], value=names[0],
        label=tr("editor.text"), show_label=False, container=False, visible=len(names) > 1,
        elem_id=elem_id, elem_classes="plain-radio",
    )  # fmt: skip
