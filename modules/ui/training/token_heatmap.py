"""Shows a perplexity measurement: a line along the text, and the text with each token shaded by its loss.

Images from `modules.training.perplexity.measure.PerplexityResult`. It must not know how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modules.training.perplexity.measure import PerplexityResult
from modules.ui.parts.formatting import escape
from modules.ui.texts import tr

_WIDE, _HIGH, _LEFT, _FOOT = 720, 150, 44, 22
_POINTS = 240  # points of the line at most: each the mean of its tokens
_MOST = 12.0  # nats at which a token has the darkest shade


def perplexity_svg(measured: PerplexityResult) -> str:
    """Perplexity along the text, as an SVG image; empty before the second token."""
    if measured.scored < 2:
        return ""
    surprise = np.concatenate(measured.surprise).astype(np.float64)
    parts = [float(part.mean()) for part in np.array_split(surprise, min(_POINTS, len(surprise)))]
    top = max(*parts, 0.1) * 1.05
    width, high = _WIDE - _LEFT - 8, _HIGH - 8
    points = [
        f"{_LEFT + width * at / max(len(parts) - 1, 1):.1f},{8 + high * (1 - value / top):.1f}"
        for at, value in enumerate(parts)
    ]
    mean = 8 + high * (1 - float(surprise.mean()) / top)
    ticks = "".join(_tick(share, top, high) for share in (0.0, 0.5, 1.0))
    said = tr("perplexity.curve", value=measured.perplexity, tokens=measured.scored)
    return (
        f"<figure class='curve'><svg role='img' viewBox='0 0 {_WIDE} {_HIGH + _FOOT}' aria-label='{escape(said)}'>"
        f"{ticks}<line class='mean' x1='{_LEFT}' x2='{_WIDE - 8}' y1='{mean:.1f}' y2='{mean:.1f}'/>"
        f"<polyline points='{' '.join(points)}'/>"
        f"<text x='{_LEFT}' y='{_HIGH + 18}'>{tr('perplexity.curve_start')}</text>"
        f"<text x='{_WIDE - 8}' y='{_HIGH + 18}' text-anchor='end'>"
        f"{tr('perplexity.curve_token', n=measured.tokens)}</text></svg>"
        f"<figcaption>{escape(said)}.</figcaption></figure>"
    )


def _tick(share: float, top: float, high: int) -> str:
    """An axis label for a perplexity, at this part of the height."""
    y = 8 + high * (1 - share) + 4
    return f"<text x='{_LEFT - 6}' y='{y:.0f}' text-anchor='end'>{math.exp(top * share):,.0f}</text>"


def heatmap_html(measured: PerplexityResult, pieces: Sequence[str]) -> str:
    """The text with each token shaded by its loss, and its probability as a tooltip."""
    if not measured.scored:
        return ""
    places = np.concatenate(measured.places)
    values = dict(zip(places.tolist(), np.concatenate(measured.surprise).tolist(), strict=True))
    made = []
    for place, piece in enumerate(pieces):
        text = escape(piece)
        value = values.get(place)
        if value is None:
            made.append(text)
            continue
        shade = round(min(value / _MOST, 1.0) * 70)
        made.append(f"<span style='--s:{shade}%' title='{math.exp(-value):.2%}'>{text}</span>")
    more = len(measured.ids) - len(pieces)
    left = f"<p>{tr('perplexity.not_shown', n=more)}</p>" if more > 0 else ""
    return f"<div class='shaded'>{''.join(made)}</div>{left}"
