"""Presets as chips: each says in its tooltip which parameters it sets. From the service to HTML."""

from __future__ import annotations

from errors import UserError
from loaders.params import SamplingParams
from modules.prompts.presets import Presets
from modules.ui.parts.error_text import error_text
from modules.ui.parts.formatting import escape, format_value, join_facts
from modules.ui.texts import tr


def presets_html(presets: Presets, chosen: str | None) -> str:
    """A chip for each preset; `chosen` is marked."""
    chips = "".join(
        f"<button type='button' data-pick='{escape(name)}' aria-pressed='{str(name == chosen).lower()}' "
        f"title='{escape(_effect(presets, name))}'>{escape(name)}</button>"
        for name in presets.names()
    )
    label = escape(tr("parameters.preset"))
    return f"<span>{label}</span><div role='group' aria-label='{label}' class='chips choices'>{chips}</div>"


def _effect(presets: Presets, name: str) -> str:
    """What the preset changes: "temperature 0.7 · top_p 0.9"; or why it cannot be read."""
    try:
        values, _ = presets.load(name)
    except UserError as error:
        return error_text(error)
    knobs = SamplingParams.knobs()
    changed = (f"{each} {format_value(value)}" for each, value in values.items() if not knobs[each].is_neutral(value))
    return join_facts(*changed) or tr("parameters.neutral")
