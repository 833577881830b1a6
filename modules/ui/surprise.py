"""How much a text surprised a model: a line along the text, and the text itself, token by token, in shades.

Pictures of `modules.training.perplexity.Measured`. It must not know how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from modules.training.perplexity import Measured
from modules.ui.words import escape

_WIDE, _HIGH, _LEFT, _FOOT = 720, 150, 44, 22
_POINTS = 240  # the line's points at most: each the mean of the tokens that it stands for
_MOST = 12.0  # nats at which a token's shade is the deepest


def line_svg(measured: Measured) -> str:
    """Perplexity along the text, as an SVG picture; nothing before the second token."""
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
    said = f"Perplexity along the text, {measured.perplexity:.2f} over all of its {measured.scored:,} tokens"
    return (
        f"<figure class='curve'><svg role='img' viewBox='0 0 {_WIDE} {_HIGH + _FOOT}' aria-label='{escape(said)}'>"
        f"{ticks}<line class='mean' x1='{_LEFT}' x2='{_WIDE - 8}' y1='{mean:.1f}' y2='{mean:.1f}'/>"
        f"<polyline points='{' '.join(points)}'/>"
        f"<text x='{_LEFT}' y='{_HIGH + 18}'>begin</text>"
        f"<text x='{_WIDE - 8}' y='{_HIGH + 18}' text-anchor='end'>token {measured.tokens:,}</text></svg>"
        f"<figcaption>{escape(said)}.</figcaption></figure>"
    )


def _tick(share: float, top: float, high: int) -> str:
    """A perplexity beside the picture, at this share of its height."""
    y = 8 + high * (1 - share) + 4
    return f"<text x='{_LEFT - 6}' y='{y:.0f}' text-anchor='end'>{math.exp(top * share):,.0f}</text>"


def tokens_html(measured: Measured, pieces: Sequence[str]) -> str:
    """The text with each token shaded by its surprise, and its probability on pointing at it."""
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
    left = f"<p>{more:,} more tokens are not shown.</p>" if more > 0 else ""
    return f"<div class='shaded'>{''.join(made)}</div>{left}"
