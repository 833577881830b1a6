"""Creates a gradio control from a knob's declaration, and converts control values to checked knob values.

For sampling parameters and load options alike. This module must not know any knob by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import gradio as gr

from loaders.knobs import Knob, Knobs
from loaders.params import SamplingParams
from modules.ui.parts.formatting import format_value
from modules.ui.parts.sentences import translated
from modules.ui.texts import knob_help, knob_label, tr

Kind = TypeVar("Kind", bound=Knobs)


def make_control(
    knob: Knob, value: Any, *, prefix: str = "knob", scope: str = "knob", folded: bool = False
) -> gr.components.Component:
    """The control of one knob, showing a value. `scope`: where its texts are, see `texts.knob_help`."""
    shared: dict[str, Any] = {
        "label": knob_label(knob, scope),
        "info": knob_info(knob, scope),
        "elem_id": f"{prefix}-{knob.name}",
        "elem_classes": ["knob", f"knob-{knob.kind}", *(["folded"] if folded else [])],
        "interactive": not knob.start_only,
    }
    shown = control_value(knob, value)
    match knob.kind:
        case "bool":
            return gr.Checkbox(shown, **shared)
        case "choice":
            return gr.Dropdown(list(knob.choices), value=shown, filterable=False, **shared)
        case "int" | "float" if knob.minimum is not None and knob.maximum is not None:
            low, high = slider_limits(knob, value)
            precision = 0 if knob.kind == "int" else None
            return gr.Slider(
                low, high, shown, step=knob.step or 0.01, precision=precision, buttons=[], **shared
            )  # fmt: skip
        case "int" | "float":
            return gr.Number(shown, precision=0 if knob.kind == "int" else None, **shared)
        case _:
            lines = min(knob.lines, 6)
            return gr.Textbox(shown, lines=lines, max_lines=max(lines, 12), **shared)


def knob_info(knob: Knob, scope: str = "knob") -> str:
    """The help under a control. A sampler's neutral value is added unless the help already contains it."""
    help = knob_help(knob, scope)
    if knob.start_only:
        return tr("control.start_only", help=help, flag=knob.flag)
    if knob.preset and knob.kind in ("int", "float") and f"{format_value(knob.neutral)} is" not in knob.help:
        return tr("control.neutral", help=help, value=format_value(knob.neutral))
    return help


def group_head(scope: str, group: str) -> str:
    """The title and description of a group of knobs, as HTML. `scope`: "knob_group" or "option_group"."""
    return f"<h2>{tr(f'{scope}.{group}.title')}</h2><p>{tr(f'{scope}.{group}.about')}</p>"


def slider_limits(knob: Knob, value: Any) -> tuple[float, float]:
    """The slider's range, extended for a value outside of it: a preset may use one."""
    assert knob.minimum is not None
    assert knob.maximum is not None
    inside = [each for each in (value, knob.neutral) if isinstance(each, int | float) and math.isfinite(each)]
    return min([knob.minimum, *inside]), max([knob.maximum, *inside])


def control_value(knob: Knob, value: Any) -> Any:
    """A knob's value in the form of its control."""
    return "\n".join(str(each) for each in value) if knob.kind == "list" else value


def change_event(knob: Knob, made: Any) -> Any:
    """The event of a control that reports a change by the user (gradio's text boxes have only `change`)."""
    return made.change if knob.kind in ("str", "list") else made.input


def control_updates(
    knobs: Iterable[Knob],
    values: Mapping[str, Any],
    unsupported: Mapping[str, str] | None = None,
    *,
    shown: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Updates that set controls to values; with `unsupported`, also which ones are greyed out, with the reason.

    `shown`: the current values of the controls, if known, as on a newly loaded page. Only differences are sent, because
    the page searches all of its components once for each property that it receives.
    """
    return [_update(knob, values[knob.name], unsupported, shown) for knob in knobs]


def changed_updates(controls: Iterable[Any], updates: Iterable[Any]) -> dict[Any, Any]:
    """Updates by control, without those that change nothing."""
    return {each: update for each, update in zip(controls, updates, strict=True) if update != gr.skip()}


def grey_out(knobs: Iterable[Knob], unsupported: Mapping[str, str], before: Iterable[str]) -> list[Any]:
    """Updates that grey out what the model cannot honour and say why. `before`: the names of those that are grey
    now.
    """
    touched = {*unsupported, *before}
    return [gr.update(**_state(knob, unsupported)) if knob.name in touched else gr.skip() for knob in knobs]


def params_from_controls(values: Sequence[Any]) -> SamplingParams:
    """The values of the controls of all sampling parameters, in declaration order. Raises: InvalidInput."""
    return parse_controls(SamplingParams, values)


def parse_controls(kind: type[Kind], values: Sequence[Any]) -> Kind:
    """The checked values of a set of knobs' controls. An emptied number field means its default. Raises:
    InvalidInput.
    """
    named = dict(zip(kind.knobs(), values, strict=True))
    return kind.parse({name: value for name, value in named.items() if value is not None})


def _update(
    knob: Knob, value: Any, unsupported: Mapping[str, str] | None, shown: Mapping[str, Any] | None = None
) -> Any:
    changes: dict[str, Any] = {}
    if shown is None or shown[knob.name] != value:
        changes["value"] = control_value(knob, value)
        if knob.kind in ("int", "float") and knob.minimum is not None:
            changes["minimum"], changes["maximum"] = slider_limits(knob, value)
    if unsupported is not None and (shown is None or knob.name in unsupported):
        changes.update(_state(knob, unsupported))
    return gr.update(**changes)


def _state(knob: Knob, unsupported: Mapping[str, str]) -> dict[str, Any]:
    reason = unsupported.get(knob.name)
    told = tr("control.unsupported", help=knob_info(knob), reason=translated(reason)) if reason else knob_info(knob)
    return {"interactive": reason is None and not knob.start_only, "info": told}
