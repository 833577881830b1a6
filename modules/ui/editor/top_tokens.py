"""The next token's distribution as HTML: bars with numbers, for this position and the one inspected before."""

from __future__ import annotations

from modules.generation.logits_snapshot import LogitsSnapshot, NextTokens, TokenCandidate
from modules.generation.sampler_trace import format_percent
from modules.generation.token_view import mark_invisible
from modules.ui.editor.token_view import token_html
from modules.ui.parts.formatting import escape, join_facts
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

_SEEN = 48  # characters of the text before the position


def hint_html() -> str:
    """The placeholder before the first inspection."""
    return f"<p class='hint'>{tr('editor.top_hint')}</p>"


def top_tokens_html(now: tuple[LogitsSnapshot, NextTokens], before: tuple[LogitsSnapshot, NextTokens] | None) -> str:
    """Both tables, on one scale."""
    shown = [now] if before is None else [now, before]
    most = max((each.candidates[0].probability for _, each in shown if each.candidates), default=1.0)
    earlier = {each.token.id: each.probability for each in before[1].candidates} if before else None
    made = [_panel(tr("editor.top_now") if before else "", *now, most, earlier)]
    if before:
        made.append(_panel(tr("editor.top_before"), *before, most, None))
    return f"<div class='top-tokens-panels'>{''.join(made)}</div>"


def snapshot_line(snapshot: LogitsSnapshot) -> str:
    """The position and what computing it took: "after “…was in the” · 212 tokens read · 0.31 s"."""
    text = mark_invisible(snapshot.text)
    tail = f"…{text[-_SEEN:]}" if len(text) > _SEEN else text
    return join_facts(
        tr("editor.top_after", text=tail), tr("unit.prompt_tokens", n=len(snapshot.ids)),
        tr("editor.top_seconds", n=snapshot.seconds),
    )  # fmt: skip


def _panel(
    title: str, snapshot: LogitsSnapshot, distribution: NextTokens, most: float, earlier: dict[int, float] | None
) -> str:
    head = f"<h3>{title}</h3>" if title else ""
    kind = tr("editor.after_samplers" if distribution.sampled else "editor.before_samplers")
    left = tr("editor.top_left" if distribution.sampled else "editor.top_candidates", n=distribution.left)
    about = join_facts(kind, left, tr("editor.top_entropy", n=abs(distribution.entropy)))  # -0.0
    rows = "".join(_row(at, each, most, earlier) for at, each in enumerate(distribution.candidates, 1))
    notes = "".join(
        f"<p class='warning'>{escape(translated(note))}</p>" for note in (*snapshot.warnings, *distribution.notes)
    )
    heads = ("token", "probability", "log", *(["before"] if earlier is not None else []))
    columns = "".join(f"<th scope='col'>{tr(f'editor.top_column.{head}')}</th>" for head in heads)
    return (
        f"<section>{head}<p class='about'>{escape(snapshot_line(snapshot))}<br>{escape(about)}</p>{notes}"
        f"<table class='top-tokens'><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _row(at: int, each: TokenCandidate, most: float, earlier: dict[int, float] | None) -> str:
    width = 100 * each.probability / most
    was = ""
    if earlier is not None:
        had = earlier.get(each.token.id)
        was = f"<td>{format_percent(had) if had is not None else '–'}</td>"
    return (
        f"<tr><th scope='row' title='{tr('editor.top_rank', n=at, id=each.token.id)}'><span "
        f"class='token'>{token_html(each.token)}</span></th>"
        f"<td class='bar'><span style='--w:{width:.2f}'></span><b>{format_percent(each.probability)}</b></td>"
        f"<td>{tr('unit.exact', n=each.logprob)}</td>{was}</tr>"
    )
