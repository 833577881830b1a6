"""The sub-tabs Logits and Samplers: what the model offers at the cursor's place, and what the samplers make of it.

The model runs when somebody presses Look; every other change here is drawn anew from what it said then. The place
comes from the page's script, the text from the draft. It must not know which tab it stands in, nor a knob by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from loaders.params import SamplingParams
from modules.app import App
from modules.generation.stages import inside
from modules.prompts.line_ends import position
from modules.ui import knob_controls, odds_view, river
from modules.ui.events import on
from modules.ui.paper import Paper, Sheet
from modules.ui.parameters_tab import KNOBS, ParametersTab

_RAW, _SAMPLED = "The model's own", "After the samplers"

#: The knobs that can be moved beside the picture: those that most people use to shape a distribution.
STEERED = tuple(
    knob
    for knob in KNOBS.values()
    if knob.group in ("randomness", "tail") and not knob.advanced and knob.kind in ("int", "float")
)


@dataclass(frozen=True)
class Sight:
    """The places that were looked at last, by their numbers; 0 is none."""

    now: int = 0
    before: int = 0


class Looks:
    """Both sub-tabs. `papers` are the texts that can be looked at, by the names that people choose them by."""

    def __init__(self, app: App, prefix: str, papers: Mapping[str, Paper]) -> None:
        self._app = app
        self._prefix = prefix
        self._papers = papers
        self._buttons: list[tuple[gr.Button, Any]] = []

    # --- what they are made of ---

    def logits(self) -> None:
        """Fill the sub-tab Logits."""
        self._sight = gr.State(Sight())
        self._caret = gr.Number(-1, visible=False)
        self._asking("logits")
        with gr.Row(elem_classes="asking-row"):
            self._kind = gr.Radio(
                [_RAW, _SAMPLED], value=_SAMPLED, label="Distribution", show_label=False, container=False,
                elem_id=f"{self._prefix}-kind", elem_classes="plain-radio",
            )  # fmt: skip
            self._count = gr.Dropdown(
                [("10 tokens", 10), ("25 tokens", 25), ("50 tokens", 50), ("250 tokens", 250)], value=25,
                label="Tokens shown", show_label=False, container=False, filterable=False,
                elem_id=f"{self._prefix}-count", elem_classes="short",
            )  # fmt: skip
        self._odds = gr.HTML(odds_view.EMPTY, elem_id=f"{self._prefix}-odds", padding=False)

    def samplers(self) -> None:
        """Fill the sub-tab Samplers."""
        self._asking("samplers")
        self._river = gr.HTML(river.EMPTY, elem_id=f"{self._prefix}-river", padding=False)
        with gr.Row(elem_classes="steering", elem_id=f"{self._prefix}-steering"):
            prefix = f"{self._prefix}-steer"
            self._steers = [knob_controls.control(knob, knob.default, prefix=prefix) for knob in STEERED]

    def _asking(self, where: str) -> None:
        """The row above a look: the button, and of which text."""
        with gr.Row(elem_classes="asking-row"):
            button = gr.Button("Look", variant="primary", size="sm", elem_id=f"{self._prefix}-look-{where}")
            self._buttons.append((button, text_choice(self._papers, f"{self._prefix}-text-{where}")))

    # --- what they do ---

    def wire(self, parameters: ParametersTab, logits: gr.Tab, samplers: gr.Tab) -> None:
        """Connect them; the pictures follow the knobs when their sub-tab is opened."""
        papers, knobs = list(self._papers.values()), parameters.knobs
        odds = [self._sight, self._kind, self._count]
        pictures = [self._odds, self._river]
        texts = [part for paper in papers for part in (paper.sheet, paper.field)]
        for button, choice in self._buttons:
            given = [self._caret, choice, *odds, *texts, *knobs]
            on(button.click, self._look, given, [self._sight, *pictures], js=self._caret_script())
        on([self._kind.input, self._count.input, logits.select], self._redraw, [*odds, *knobs], [self._odds])
        on(samplers.select, self._open, [*odds, *knobs], [*self._steers, *pictures])
        knobs_moved = [parameters.control(knob.name) for knob in STEERED]
        moved = on(
            [control.input for control in self._steers], self._steer, [*odds, *self._steers, *knobs],
            [*knobs_moved, *pictures], latest=True,
        )  # fmt: skip
        parameters.follow(moved)

    def _caret_script(self) -> str:
        """Where the cursor stands in the chosen text."""
        fields = {name: paper.field.elem_id for name, paper in self._papers.items()}
        return f"(caret, which, ...rest) => [Page.caret(({fields})[which]), which, ...rest]"

    def _look(self, caret: float, which: str, sight: Sight, kind: str, count: int, *rest: Any) -> list[Any]:
        at = list(self._papers).index(which)
        texts, values = rest[: 2 * len(self._papers)], rest[2 * len(self._papers) :]
        sheet: Sheet = texts[2 * at]
        text = list(self._papers.values())[at].exact(sheet, texts[2 * at + 1])
        if caret >= 0:
            text = text[: position(text, int(caret))]
        params = knob_controls.params_from(values)
        # the page's own name: whoever looks anew ends the look before, and nobody else's
        place = self._app.places.look(text, params, who=f"{self._prefix.capitalize()} ({sheet.writer})")
        sight = Sight(place.id, sight.now)
        return [sight, *self._pictures(sight, kind, count, params)]

    def _redraw(self, sight: Sight, kind: str, count: int, *values: Any) -> str:
        return self._odds_html(sight, kind, count, knob_controls.params_from(values))

    def _open(self, sight: Sight, kind: str, count: int, *values: Any) -> list[Any]:
        """Sliders and pictures as the knobs stand now."""
        params = knob_controls.params_from(values)
        model = self._app.models.loaded
        sliders = knob_controls.updates(STEERED, params.model_dump(), model.unsupported if model else {})
        return [*sliders, *self._pictures(sight, kind, count, params)]

    def _steer(self, sight: Sight, kind: str, count: int, *values: Any) -> list[Any]:
        """A slider was moved: its knob moves with it, and all is drawn anew from what the model said before."""
        moved, rest = values[: len(STEERED)], values[len(STEERED) :]
        named = {knob.name: value for knob, value in zip(STEERED, moved, strict=True) if value is not None}
        params = knob_controls.params_from(rest).changed(**named)
        return [*(getattr(params, knob.name) for knob in STEERED), *self._pictures(sight, kind, count, params)]

    def _pictures(self, sight: Sight, kind: str, count: int, params: SamplingParams) -> list[Any]:
        if not sight.now:
            return [gr.skip(), gr.skip()]
        place = self._app.places.get(sight.now)
        return [self._odds_html(sight, kind, count, params), river.inside_html(inside(place, params))]

    def _odds_html(self, sight: Sight, kind: str, count: int, params: SamplingParams) -> str:
        places = [self._app.places.get(number) for number in (sight.now, sight.before) if number]
        if not places:
            return odds_view.EMPTY
        shown = [(place, place.distribution(params, sampled=kind == _SAMPLED, count=count)) for place in places]
        return odds_view.odds_html(shown[0], shown[1] if len(shown) > 1 else None)


def text_choice(papers: Mapping[str, Paper] | Sequence[str], elem_id: str) -> gr.Radio:
    """Which of the texts is meant; nothing to be seen where there is one only."""
    names = list(papers)
    return gr.Radio(
        names, value=names[0], label="Text", show_label=False, container=False, visible=len(names) > 1,
        elem_id=elem_id, elem_classes="plain-radio",
    )  # fmt: skip
