"""The sampler inspector's flow chart: candidates from left to right, narrowed by each sampler, and the same as a table.

Its height is the number of remaining candidates on a logarithmic scale; its bands are the probabilities of the most
relevant tokens. Where that is too wide to be read, the candidates go from top to bottom, and the table becomes a list.
From plain data to SVG and HTML; it must not know of samplers or models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
_SMALLEST = 0.75  # the least scale at which the names can be read; in a narrower place the chart stands upright
# upright: the chart's width, a step's height, where its texts begin, the width of all, which a phone of 360 pixels has
_ACROSS, _DOWN, _TEXTS, _UPRIGHT = 128, 56, 140, 336

Band = list[tuple[float, float]]  # the upper and lower edge after each step; upright: the left and the right


@dataclass(frozen=True)
class Course:
    """The way of the candidates: where it starts, how long a step is, and whether it leads down, not to the right."""

    start: int
    step: int
    down: bool = False

    def point(self, along: int, across: float) -> str:
        return f"{across:.1f} {along}" if self.down else f"{along} {across:.1f}"


def hint_html() -> str:
    """The placeholder before the first inspection."""
    return f"<p class='hint'>{tr('editor.flow_hint')}</p>"


def sampler_flow_html(inside: SamplerTrace) -> str:
    """The summary, the chart and the table."""
    notes = "".join(f"<p class='warning'>{escape(translated(note))}</p>" for note in inside.notes)
    return (
        f"<div class='sampler-view'><p class='sentence'>{escape(translated(inside.sentence))}</p>{notes}"
        f"{_picture(inside)}{_table(inside.steps)}</div>"
    )


def _picture(inside: SamplerTrace) -> str:
    steps, streams = inside.steps, inside.streams
    wide = min(_STEP, max(_NARROWEST, (_WHOLE - _LEFT - _RIGHT) // len(steps)))
    width = _LEFT + wide * len(steps) + _RIGHT
    bands = _bands(inside, _HEAD, _HIGH)
    made = _paths(inside, bands, Course(_LEFT, wide))
    made += [_gate(_LEFT + wide * at, step) for at, step in enumerate(steps)]
    made += _names(streams, bands, 0, _LEFT - 8, "end")
    made += _names(streams, bands, -1, _LEFT + wide * len(steps) + 8, "start")
    high, least = _HEAD + _HIGH + _FOOT, round(width * _SMALLEST)
    label = escape(translated(inside.sentence))
    return (
        f"<style>@container sampler-view (max-width: {least - 1}px) {{ .lying-{least} {{ display: none; }} }} "
        f"@container sampler-view (min-width: {least}px) "
        f"{{ .lying-{least} + .upright {{ display: none !important; }} }}</style>"
        f"<div class='sampler-flow lying-{least}'><svg role='img' viewBox='0 0 {width} {high}' "
        f"style='max-width: {width}px' aria-label='{label}'>{''.join(made)}</svg></div>"
        f"<div class='sampler-flow upright'>{_upright(inside, label)}</div>"
    )


def _upright(inside: SamplerTrace, label: str) -> str:
    """The chart for a narrow place, and its tokens as a list below it."""
    steps, first, last = inside.steps, 0, -1
    bands = _bands(inside, 0, _ACROSS)
    made = _paths(inside, bands, Course(0, _DOWN, down=True))
    for at, step in enumerate(steps):
        y = _DOWN * at
        if at:
            made.append(f"<line class='gate' x1='0' y1='{y}' x2='{_ACROSS}' y2='{y}'/>")
        made.append(
            f"<text class='name' x='{_TEXTS}' y='{y + 16}'>{escape(step.name)} "
            f"<tspan class='value'>{escape(step.value)}</tspan></text>"
            f"<text class='took' x='{_TEXTS}' y='{y + 32}'>{escape(_took(step))}</text>"
            f"<text class='value' x='{_TEXTS}' y='{y + 47}'>{tr('editor.flow_left', n=step.kept)}</text>"
        )
    names = "".join(
        f"<li><svg viewBox='0 0 1 1' aria-hidden='true'><rect class='b{at % 9}' width='1' height='1'/></svg>"
        f"<span class='token'>{token_html(stream.token)}</span> "
        f"<small>{format_percent(stream.shares[first])} → {format_percent(stream.shares[last])}</small></li>"
        for at, stream in enumerate(inside.streams)
    )
    return (
        f"<svg role='img' viewBox='0 0 {_UPRIGHT} {_DOWN * len(steps)}' aria-label='{label}'>{''.join(made)}</svg>"
        f"<ul>{names}</ul>"
    )


def _bands(inside: SamplerTrace, low: int, size: int) -> list[Band]:
    """The edges of each stream, from the top down; the last band is all other tokens."""
    most = math.log(max(inside.n_vocab, 2))
    bands: list[Band] = [[] for _ in range(len(inside.streams) + 1)]
    for at, step in enumerate(inside.steps):
        high = size * (_THINNEST + (1 - _THINNEST) * math.log(max(step.kept, 1)) / most)
        shares = [stream.shares[at] for stream in inside.streams]
        shares.append(max(0.0, 1 - sum(shares)))
        y = low + (size - high) / 2
        for band, share in zip(bands, shares, strict=True):
            band.append((y, y + high * share))
            y += high * share
    return bands


def _paths(inside: SamplerTrace, bands: Sequence[Band], course: Course) -> list[str]:
    """The bands; each tells in its tooltip what happened to its token."""
    stories = [escape(_story(stream, inside.steps)) for stream in inside.streams]
    kinds = [f"b{at % 9}" for at in range(len(stories))]
    shown = zip([*kinds, "others"], bands, [*stories, tr("editor.flow_others")], strict=True)
    return [
        f"<path class='band {kind}' d='{_path(band, course)}'><title>{story}</title></path>"
        for kind, band, story in shown
    ]


def _path(band: Band, course: Course) -> str:
    """A band as a path: level within a step, bent between steps."""
    upper = _edge([edge[0] for edge in band], course, forward=True)
    lower = _edge([edge[1] for edge in band], course, forward=False)
    return f"M{upper} L{lower} Z"


def _edge(heights: Sequence[float], course: Course, *, forward: bool) -> str:
    point, last = course.point, len(heights) - 1
    begin = point(course.start, heights[0])
    end = point(course.start + course.step * (last + 1), heights[-1])
    if forward:
        made = [begin]
        for at in range(1, last + 1):
            x, y, to = course.start + course.step * at, heights[at - 1], heights[at]
            made.append(f"L{point(x - _BEND, y)} C{point(x, y)} {point(x, to)} {point(x + _BEND, to)}")
        return " ".join([*made, f"L{end}"])
    made = [end]
    for at in range(last, 0, -1):
        x, y, to = course.start + course.step * at, heights[at], heights[at - 1]
        made.append(f"L{point(x + _BEND, y)} C{point(x, y)} {point(x, to)} {point(x - _BEND, to)}")
    return " ".join([*made, f"L{begin}"])


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
    names = ("step", "left", "removed", "mass", "moved", "likeliest", "likeliest_removed")
    heads = [tr(f"editor.flow_column.{name}") for name in names]
    columns = "".join(f"<th scope='col' role='columnheader'>{head}</th>" for head in heads)
    rows = "".join(_row(step, heads[1:]) for step in steps)
    # with the roles it is still a table for screen readers where style.css makes a list of it
    return (
        f"<table class='steps' role='table'><thead role='rowgroup'><tr role='row'>{columns}</tr></thead>"
        f"<tbody role='rowgroup'>{rows}</tbody></table>"
    )


def _row(step: StepView, heads: Sequence[str]) -> str:
    cells = (
        f"{step.kept:,}",
        f"{step.removed:,}" if step.removed else "–",
        format_percent(step.taken) if step.removed else "–",
        format_percent(step.moved) if step.name != "model" else "–",
        _some(step.best),
        _some(step.gone) or "–",
    )
    made = "".join(
        f"<td role='cell' data-head='{escape(head)}'{'' if cell != '–' else ' class=none'}><span>{cell}</span></td>"
        for head, cell in zip(heads, cells, strict=True)
    )
    name = f"{escape(step.name)} <small>{escape(step.value)}</small>"
    return f"<tr role='row'><th scope='row' role='rowheader'>{name}</th>{made}</tr>"


def _some(tokens: Sequence[tuple[VisibleToken, float]]) -> str:
    return " ".join(
        f"<span class='token'>{token_html(token)}</span>&nbsp;<small>{format_percent(share)}</small>"
        for token, share in tokens[:4]
    )
