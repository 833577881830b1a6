"""From a knob's declaration to a control of gradio, and back from the controls to checked values.

Sampling knobs and load options go through the same door. This module must not know a single knob by its name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import gradio as gr

from loaders.knobs import Knob, Knobs
from loaders.params import SamplingParams
from modules.ui.words import number

Kind = TypeVar("Kind", bound=Knobs)


def control(knob: Knob, value: Any, *, prefix: str = "knob", folded: bool = False) -> gr.components.Component:
    """The control of one knob, showing a value."""
    shared: dict[str, Any] = {
        "label": knob.label,
        "info": info(knob),
        "elem_id": f"{prefix}-{knob.name}",
        "elem_classes": ["knob", f"knob-{knob.kind}", *(["folded"] if folded else [])],
        "interactive": not knob.start_only,
    }
    shown = to_control(knob, value)
    match knob.kind:
        case "bool":
            return gr.Checkbox(shown, **shared)
        case "choice":
            return gr.Dropdown(list(knob.choices), value=shown, filterable=False, **shared)
        case "int" | "float" if knob.minimum is not None and knob.maximum is not None:
            low, high = limits(knob, value)
            precision = 0 if knob.kind == "int" else None
            return gr.Slider(
                low, high, shown, step=knob.step or 0.01, precision=precision, buttons=[], **shared
            )  # fmt: skip
        case "int" | "float":
            return gr.Number(shown, precision=0 if knob.kind == "int" else None, **shared)
        case _:
            lines = min(knob.lines, 6)
            return gr.Textbox(shown, lines=lines, max_lines=max(lines, 12), **shared)


def info(knob: Knob) -> str:
    """The help under a control. A sampler's neutral value is said unless the help says it already."""
    if knob.start_only:
        return f"{knob.help} Only {knob.flag} at the start switches it on."
    if knob.preset and knob.kind in ("int", "float") and f"{number(knob.neutral)} is" not in knob.help:
        return f"{knob.help} Neutral: {number(knob.neutral)}."
    return knob.help


def limits(knob: Knob, value: Any) -> tuple[float, float]:
    """The slider's range, widened where a value lies beyond it: a preset may ask for more than the range shows."""
    assert knob.minimum is not None
    assert knob.maximum is not None
    inside = [each for each in (value, knob.neutral) if isinstance(each, int | float) and math.isfinite(each)]
    return min([knob.minimum, *inside]), max([knob.maximum, *inside])


def to_control(knob: Knob, value: Any) -> Any:
    """A knob's value as its control holds it."""
    return "\n".join(str(each) for each in value) if knob.kind == "list" else value


def changed(knob: Knob, made: Any) -> Any:
    """The event of a control that tells that a person has changed it (gradio's text boxes have none but `change`)."""
    return made.change if knob.kind in ("str", "list") else made.input


def updates(
    knobs: Iterable[Knob],
    values: Mapping[str, Any],
    unsupported: Mapping[str, str] | None = None,
    *,
    shown: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Updates that set controls to values; with `unsupported`, also what is greyed, with the reason.

    `shown`: what the controls hold, where that is known: on a page that has just come up. Only what differs is sent,
    for the page looks for a control among all of its own once for each property that it is sent.
    """
    return [_update(knob, values[knob.name], unsupported, shown) for knob in knobs]


def greyed(knobs: Iterable[Knob], unsupported: Mapping[str, str], before: Iterable[str]) -> list[Any]:
    """Updates that grey what the model cannot honour and say why. `before`: the names of those that are grey."""
    touched = {*unsupported, *before}
    return [gr.update(**_state(knob, unsupported)) if knob.name in touched else gr.skip() for knob in knobs]


def params_from(values: Sequence[Any]) -> SamplingParams:
    """What the controls of all sampling knobs hold, in the order of their declaration. Raises: InvalidInput."""
    return parse(SamplingParams, values)


def parse(kind: type[Kind], values: Sequence[Any]) -> Kind:
    """What the controls of a set of knobs hold, checked. An emptied number is its default. Raises: InvalidInput."""
    named = dict(zip(kind.knobs(), values, strict=True))
    return kind.parse({name: value for name, value in named.items() if value is not None})


def _update(
    knob: Knob, value: Any, unsupported: Mapping[str, str] | None, shown: Mapping[str, Any] | None = None
) -> Any:
    changes: dict[str, Any] = {}
    if shown is None or shown[knob.name] != value:
        changes["value"] = to_control(knob, value)
        if knob.kind in ("int", "float") and knob.minimum is not None:
            changes["minimum"], changes["maximum"] = limits(knob, value)
    if unsupported is not None and (shown is None or knob.name in unsupported):
        changes.update(_state(knob, unsupported))
    return gr.update(**changes)


def _state(knob: Knob, unsupported: Mapping[str, str]) -> dict[str, Any]:
    reason = unsupported.get(knob.name)
    told = f"{info(knob)} Not with this model: {reason}" if reason else info(knob)
    return {"interactive": reason is None and not knob.start_only, "info": told}
