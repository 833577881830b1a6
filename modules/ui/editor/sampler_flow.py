"""The sampler inspector's flow chart: candidates from left to right, narrowed by each sampler, and the same as a table.

Its height is the number of remaining candidates on a logarithmic scale; its bands are the probabilities of the most
relevant tokens. From plain data to SVG and HTML; it must not know of samplers or models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modules.generation.sampler_trace import SamplerTrace, StepView, TokenTrace, format_percent
from modules.generation.token_view import VisibleToken
from modules.ui.editor.token_view import token_html
from modules.ui.parts.formatting import escape
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

# pixels: the margins for the tokens' names, a step's width, a gate's bend to either side, the chart's height
_LEFT, _RIGHT, _STEP, _BEND, _HIGH = 128, 132, 112, 22, 264
_NARROWEST, _WHOLE = 76, 1056  # a step's width where there are many; the width beside the text at 1,400 pixels
_HEAD, _FOOT, _LINE = 58, 44, 19
_THINNEST = 0.16  # part of the height at which one candidate is left
_SMALLEST = 0.75  # the least scale at which the names can be read; a narrower place scrolls

Band = list[tuple[float, float]]  # the upper and lower edge after each step


def hint_html() -> str:
    """The placeholder before the first inspection."""
    return f"<p class='hint'>{tr('editor.flow_hint')}</p>"


def sampler_flow_html(inside: SamplerTrace) -> str:
    """The summary, the chart and the table."""
    notes = "".join(f"<p class='warning'>{escape(translated(note))}</p>" for note in inside.notes)
    return (
        f"<p class='sentence'>{escape(translated(inside.sentence))}</p>{notes}{_picture(inside)}{_table(inside.steps)}"
    )


def _picture(inside: SamplerTrace) -> str:
    steps, streams = inside.steps, inside.streams
    wide = min(_STEP, max(_NARROWEST, (_WHOLE - _LEFT - _RIGHT) // len(steps)))
    width = _LEFT + wide * len(steps) + _RIGHT
    bands = _bands(inside)
    made = [
        f"<path class='band b{at % 9}' d='{_path(band, wide)}'><title>{escape(_story(stream, steps))}</title></path>"
        for at, (stream, band) in enumerate(zip(streams, bands, strict=False))
    ]
    made.append(
        f"<path class='band others' d='{_path(bands[-1], wide)}'><title>{tr('editor.flow_others')}</title></path>"
    )
    made += [_gate(_LEFT + wide * at, step) for at, step in enumerate(steps)]
    made += _names(streams, bands, 0, _LEFT - 8, "end")
    made += _names(streams, bands, -1, _LEFT + wide * len(steps) + 8, "start")
    high = _HEAD + _HIGH + _FOOT
    return (
        f"<div class='sampler-flow' tabindex='0'>"
        f"<svg role='img' viewBox='0 0 {width} {high}' "
        f"style='max-width: {width}px; min-width: {width * _SMALLEST:.0f}px' "
        f"aria-label='{escape(translated(inside.sentence))}'>{''.join(made)}</svg></div>"
    )


def _bands(inside: SamplerTrace) -> list[Band]:
    """The edges of each stream, from the top down; the last band is all other tokens."""
    most = math.log(max(inside.n_vocab, 2))
    bands: list[Band] = [[] for _ in range(len(inside.streams) + 1)]
    for at, step in enumerate(inside.steps):
        high = _HIGH * (_THINNEST + (1 - _THINNEST) * math.log(max(step.kept, 1)) / most)
        shares = [stream.shares[at] for stream in inside.streams]
        shares.append(max(0.0, 1 - sum(shares)))
        y = _HEAD + (_HIGH - high) / 2
        for band, share in zip(bands, shares, strict=True):
            band.append((y, y + high * share))
            y += high * share
    return bands


def _path(band: Band, wide: int) -> str:
    """A band as a path: level within a step, bent between steps."""
    upper = _edge([edge[0] for edge in band], wide, forward=True)
    lower = _edge([edge[1] for edge in band], wide, forward=False)
    return f"M{upper} L{lower} Z"


def _edge(heights: Sequence[float], wide: int, *, forward: bool) -> str:
    last = len(heights) - 1
    points = [f"{_LEFT} {heights[0]:.1f}"]
    for at, y in enumerate(heights[1:], 1):
        x = _LEFT + wide * at
        points.append(f"L{x - _BEND} {heights[at - 1]:.1f} C{x} {heights[at - 1]:.1f} {x} {y:.1f} {x + _BEND} {y:.1f}")
    points.append(f"L{_LEFT + wide * (last + 1)} {heights[-1]:.1f}")
    if forward:
        return " ".join(points)
    back = [f"{_LEFT + wide * (last + 1)} {heights[-1]:.1f}"]
    for at in range(last, 0, -1):
        x, y, to = _LEFT + wide * at, heights[at], heights[at - 1]
        back.append(f"L{x + _BEND} {y:.1f} C{x} {y:.1f} {x} {to:.1f} {x - _BEND} {to:.1f}")
    back.append(f"L{_LEFT} {heights[0]:.1f}")
    return " ".join(back)


def _gate(x: int, step: StepView) -> str:
    """A step's name and value above its line, what it removed below. The model itself comes before the first step."""
    first, _, second = step.name.rpartition("_") if len(step.name) > 11 else ("", "", step.name)
    name = f"<text class='name' x='{x}' y='14'>{escape(first)}_</text>" if first else ""
    name += f"<text class='name' x='{x}' y='30'>{escape(second)}</text>"
    line = f"<line class='gate' x1='{x}' y1='{_HEAD}' x2='{x}' y2='{_HEAD + _HIGH}'/>" if x > _LEFT else ""
    below = _HEAD + _HIGH + 18
    return (
        f"{line}{name}<text class='value' x='{x}' y='46'>{escape(step.value)}</text>"
        f"<text class='took' x='{x}' y='{below}'>{escape(_took(step))}</text>"
        f"<text class='value' x='{x}' y='{below + 17}'>{tr('editor.flow_left', n=step.kept)}</text>"
    )


def _took(step: StepView) -> str:
    if step.name == "model":
        return tr("editor.flow_offers")
    if step.removed:
        return tr("editor.flow_removed", share=format_percent(step.taken))
    if step.moved < 5e-5:
        return tr("editor.flow_same")
    return tr("editor.flow_moved", share=format_percent(step.moved))


def _names(streams: Sequence[TokenTrace], bands: Sequence[Band], at: int, x: int, anchor: str) -> list[str]:
    """The tokens' names beside the chart, as near to their bands as possible without overlap."""
    shown = [
        (sum(band[at]) / 2, stream) for stream, band in zip(streams, bands, strict=False) if stream.shares[at] >= 0.002
    ]
    made = []
    low = float(_HEAD)
    bottom = _HEAD + _HIGH - _LINE * (len(shown) - 1)
    for wished, stream in shown:
        y = min(max(wished, low), bottom)
        low, bottom = y + _LINE, bottom + _LINE
        text = f"{_short(stream.token)}  {format_percent(stream.shares[at])}"
        made.append(f"<text class='token-name' x='{x}' y='{y + 4:.0f}' text-anchor='{anchor}'>{escape(text)}</text>")
    return made


def _story(stream: TokenTrace, steps: Sequence[StepView]) -> str:
    """What happened to a token: "·Paris: 41 % model, 48 % temperature, taken by top_k"."""
    told = []
    for step, share in zip(steps, stream.shares, strict=True):
        if share <= 0:
            told.append(tr("editor.flow_removed_by", name=step.name))
            break
        told.append(f"{format_percent(share)} {step.name}")
    return f"{stream.token.text}: {', '.join(told)}"


def _short(token: VisibleToken) -> str:
    return token.text if len(token.text) <= 8 else f"{token.text[:7]}…"


def _table(steps: Sequence[StepView]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(step.name)} <small>{escape(step.value)}</small></th><td>{step.kept:,}</td>"
        f"<td>{f'{step.removed:,}' if step.removed else '–'}</td>"
        f"<td>{format_percent(step.taken) if step.removed else '–'}</td>"
        f"<td>{format_percent(step.moved) if step.name != 'model' else '–'}</td>"
        f"<td>{_some(step.best)}</td><td>{_some(step.gone)}</td></tr>"
        for step in steps
    )
    heads = ("step", "left", "removed", "mass", "moved", "likeliest", "likeliest_removed")
    columns = "".join(f"<th scope='col'>{tr(f'editor.flow_column.{head}')}</th>" for head in heads)
    return (
        f"<div class='wide' tabindex='0'><table class='steps'><thead><tr>{columns}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _some(tokens: Sequence[tuple[VisibleToken, float]]) -> str:
    return " ".join(
        f"<span class='token'>{token_html(token)}</span>&nbsp;<small>{format_percent(share)}</small>"
        for token, share in tokens[:4]
    )
