"""The next token's distribution as bars with numbers: what is now, and beside it what was. HTML out."""

from __future__ import annotations

from modules.generation.place import Candidate, Distribution, Place
from modules.generation.stages import percent
from modules.generation.token_view import visible
from modules.ui.token_marks import mark
from modules.ui.words import escape, parts, plural

EMPTY = (
    "<p class='hint'>Put the cursor where you want to know what comes next, and press Look. Without a cursor the end "
    "of the text is looked at.</p>"
)

_SEEN = 48  # characters of the text before the place


def odds_html(now: tuple[Place, Distribution], before: tuple[Place, Distribution] | None) -> str:
    """Both tables, on one scale."""
    shown = [now] if before is None else [now, before]
    most = max((each.candidates[0].probability for _, each in shown if each.candidates), default=1.0)
    earlier = {each.token.id: each.probability for each in before[1].candidates} if before else None
    made = [_panel("Now" if before else "", *now, most, earlier)]
    if before:
        made.append(_panel("Before", *before, most, None))
    return f"<div class='odds-panels'>{''.join(made)}</div>"


def place_line(place: Place) -> str:
    """Where this is and what it took: "after “…was in the” · 212 tokens read · 0.31 s"."""
    text = visible(place.text)
    tail = f"…{text[-_SEEN:]}" if len(text) > _SEEN else text
    return parts(f"after “{tail}”", plural(len(place.ids), "token") + " of prompt", f"{place.seconds:.2f} s")


def _panel(title: str, place: Place, odds: Distribution, most: float, earlier: dict[int, float] | None) -> str:
    head = f"<h3>{title}</h3>" if title else ""
    kind = "after the samplers" if odds.sampled else "the model's own"
    left = f"{odds.left:,} that can be drawn" if odds.sampled else f"{odds.left:,} candidates"
    about = parts(kind, left, f"{odds.entropy:.2f} bits of entropy")
    rows = "".join(_row(at, each, most, earlier) for at, each in enumerate(odds.candidates, 1))
    notes = "".join(f"<p class='warning'>{escape(note)}</p>" for note in (*place.warnings, *odds.notes))
    columns = "<th scope='col'>before</th>" if earlier is not None else ""
    return (
        f"<section>{head}<p class='about'>{escape(place_line(place))}<br>{escape(about)}</p>{notes}"
        "<table class='odds'><thead><tr><th scope='col'>token</th><th scope='col'>probability</th>"
        f"<th scope='col'>log</th>{columns}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _row(at: int, each: Candidate, most: float, earlier: dict[int, float] | None) -> str:
    width = 100 * each.probability / most
    was = ""
    if earlier is not None:
        had = earlier.get(each.token.id)
        was = f"<td>{percent(had) if had is not None else '–'}</td>"
    return (
        f"<tr><th scope='row' title='place {at}, id {each.token.id}'><span class='token'>{mark(each.token)}</span></th>"
        f"<td class='bar'><span style='--w:{width:.2f}'></span><b>{percent(each.probability)}</b></td>"
        f"<td>{each.logprob:.2f}</td>{was}</tr>"
    )
