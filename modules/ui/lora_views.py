"""A training in pictures: the look at the data, the curves while it runs, what it says of itself. Knows no gradio.

Each takes a record of `modules.training` and gives HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modules.training.look import Look, Sample
from modules.training.lora_events import Event
from modules.training.workshop import State
from modules.ui.words import escape, parts, plural

_WIDE, _HIGH, _LEFT, _RIGHT, _FOOT = 720, 220, 48, 64, 24
_POINTS = 400  # of a curve at most


# --- the look ---


def look_html(look: Look) -> str:
    """Counts, memory, lengths, notes and samples."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in look.notes)
    facts = [
        (f"{look.examples:,}", f"examples of {look.rows:,} {_rows(look.kind)}"),
        (f"{look.tokens:,}", f"tokens an epoch, {look.learned:,} of them learned"),
        (f"{look.updates:,}", "updates in all" + (f", about {duration(look.seconds)}" if look.seconds else "")),
        (f"{look.longest_tokens:,}", f"tokens in the longest, row {look.longest_row:,}"),
    ]
    tiles = "".join(f"<div><b>{number}</b><small>{escape(said)}</small></div>" for number, said in facts)
    shown = "".join(_sample(each) for each in look.samples)
    return (
        f"<div class='look'><p>{escape(look.kind[:1].upper() + look.kind[1:])}.</p><div class='tiles'>{tiles}</div>"
        f"{_lengths(look)}{_memory(look)}<ul class='notes'>{notes}</ul>"
        f"<h3>As the model sees it</h3><p><mark>Marked</mark> is learned; the rest is only read.</p>{shown}</div>"
    )


def _rows(kind: str) -> str:
    return "blocks" if kind.startswith("blocks") else "rows"


def _memory(look: Look) -> str:
    amounts = (
        ("weights", look.weights), ("adapter and optimizer", look.adapter), ("activations", look.activations),
        ("the program", look.program),
    )  # fmt: skip
    whole = max(look.needed, look.free)
    bars = "".join(
        f"<span class='part-{place}' style='width:{100 * size / whole:.2f}%' title='{name} {size / 1e9:.2f} GB'></span>"
        for place, (name, size) in enumerate(amounts)
    )
    told = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in amounts if size)
    verdict = "it fits" if look.needed <= look.free else "it does not fit: lower the micro batch or the cutoff"
    said = f"About {look.needed / 1e9:.1f} of {look.free / 1e9:.1f} GB that are free in {look.where}: {verdict}."
    return (
        f"<div class='memory{'' if look.needed <= look.free else ' too-much'}'><div class='bar'>{bars}</div>"
        f"<small>{said} In GB: {told}.</small></div>"
    )


def _lengths(look: Look) -> str:
    most = max(each.count for each in look.bins)
    bars = "".join(
        f"<span style='height:{max(100 * each.count / most, 2 if each.count else 0):.0f}%' "
        f"title='{plural(each.count, 'example')} of {each.least} to {each.most} tokens'></span>"
        for each in look.bins
    )
    least, longest = look.bins[0].least, look.bins[-1].most
    said = f"Lengths of the examples: {least:,} to {longest:,} tokens"
    return (
        f"<figure class='lengths' role='img' aria-label='{said}'><div>{bars}</div>"
        f"<figcaption>{said}.</figcaption></figure>"
    )


def _sample(one: Sample) -> str:
    pieces: list[str] = []
    learned = None
    for piece in one.pieces:
        if piece.learned != learned:
            pieces.append(("</mark>" if learned else "") + ("<mark>" if piece.learned else ""))
            learned = piece.learned
        pieces.append(f"<span title='{piece.id}'>{escape(piece.text)}</span>")
    end = ("</mark>" if learned else "") + (f" &hellip; {one.more:,} more" if one.more else "")
    head = f"Row {one.row:,}, {plural(one.tokens, 'token')}"
    return f"<details open><summary>{head}</summary><pre>{''.join(pieces)}{end}</pre></details>"


# --- the run ---


def state_html(state: State, loras: Path) -> str:
    """Where it stands, in words, with a bar."""
    if state.phase == "none":
        return ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in state.notes)
    listed = f"<ul class='notes'>{notes}</ul>" if notes else ""
    if state.phase == "failed":
        return f"<p class='warning' role='alert'>{escape(state.error)}</p>{listed}"
    name = state.settings.lora_name if state.settings else ""
    if state.phase == "done" and state.end:
        end, last = state.end, state.steps[-1] if state.steps else None
        why = {"finished": "is trained", "stopped": "was stopped, and is saved", "loss reached": "reached its loss"}
        loss = f"loss {last.loss:.4f}" if last and last.loss is not None else ""
        told = parts(
            f"{end.update:,} of {plural(end.updates, 'update')}", loss, f"{end.tokens_per_second:,.0f} tokens/s",
            f"in {duration(end.seconds)}", f"{loras / name}",
        )  # fmt: skip
        return f"<p><b>{escape(name)}</b> {why[end.text]}. {escape(told)}</p>{listed}"
    if not state.ready or not state.steps:
        doing = state.doing or "The first batch is computed"
        return f"<p aria-live='polite'>{escape(parts(name, doing))} &hellip;</p>{listed}"
    last, ready = state.steps[-1], state.ready
    percent = round(100 * last.update / max(last.updates, 1))
    steps = f"step {last.update * ready.accumulation:,} of {last.updates * ready.accumulation:,}"
    left = f"{duration(last.seconds_left)} left" if last.seconds_left is not None else ""
    facts = parts(
        name, steps, f"epoch {last.epoch:.2f}", f"loss {last.loss:.4f}",
        f"{last.tokens_per_second:,.0f} tokens/s", left,
        f"checkpoint at step {state.checkpoint * ready.accumulation:,}" if state.checkpoint else "",
    )  # fmt: skip
    doing = f"<p>{escape(state.doing)} &hellip;</p>" if state.doing else ""
    return (
        f"<div role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' aria-valuemax='100' "
        f"aria-label='Training'><span style='width:{percent}%'></span></div><p>{escape(facts)}</p>{doing}{listed}"
    )


def curves_svg(state: State) -> str:
    """Loss, evaluation loss and learning rate over the steps, as an SVG picture; nothing before the first step."""
    steps = _thinned([event for event in state.steps if event.loss is not None])
    if not steps or state.ready is None:
        return ""
    accumulation = state.ready.accumulation
    first, last = steps[0].update, max(steps[-1].update, steps[0].update + 1)
    losses = [event.loss or 0.0 for event in (*steps, *state.evaluations)]
    low, top = min(losses), max(losses)
    low, top = (0.0, top or 1.0) if low < top * 0.3 or top == low else (low * 0.98, top * 1.02)
    rates = [event.learning_rate or 0.0 for event in steps]
    fastest = max(rates) or 1.0

    def across(event: Event) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * (event.update - first) / (last - first)

    def down(share: float) -> float:
        return 8 + (_HIGH - 16) * (1 - share)

    loss = _line((across(event), down(((event.loss or 0.0) - low) / (top - low))) for event in steps)
    rate = _line((across(event), down((event.learning_rate or 0.0) / fastest)) for event in steps)
    held = [(across(event), down(((event.loss or 0.0) - low) / (top - low))) for event in state.evaluations]
    dots = "".join(f"<circle class='eval' cx='{x:.1f}' cy='{y:.1f}' r='3'/>" for x, y in held)
    evaluation = f"<polyline class='eval' points='{_line(held)}'/>{dots}" if held else ""
    ticks = "".join(
        f"<line class='grid' x1='{_LEFT}' x2='{_WIDE - _RIGHT}' y1='{down(share):.1f}' y2='{down(share):.1f}'/>"
        f"<text x='{_LEFT - 6}' y='{down(share) + 4:.1f}' text-anchor='end'>{low + (top - low) * share:.2f}</text>"
        for share in (0.0, 0.5, 1.0)
    )
    said = f"Loss over the steps, {steps[-1].loss:.4f} at step {steps[-1].update * accumulation:,}"
    if state.evaluations:
        said += f"; on the evaluation set {state.evaluations[-1].loss:.4f}"
    legend = (
        "<span class='key loss'></span>loss"
        + (" <span class='key eval'></span>evaluation" if held else "")
        + " <span class='key rate'></span>learning rate"
    )
    return (
        f"<figure class='curve training-curve'><svg role='img' viewBox='0 0 {_WIDE} {_HIGH + _FOOT}' "
        f"aria-label='{escape(said)}'>{ticks}<polyline class='rate' points='{rate}'/>"
        f"<polyline points='{loss}'/>{evaluation}"
        f"<text x='{_WIDE - _RIGHT + 6}' y='{down(1) + 4:.1f}'>{fastest:.0e}</text>"
        f"<text x='{_WIDE - _RIGHT + 6}' y='{down(0) + 4:.1f}'>0</text>"
        f"<text x='{_LEFT}' y='{_HIGH + 16}'>step {first * accumulation:,}</text>"
        f"<text x='{_WIDE - _RIGHT}' y='{_HIGH + 16}' text-anchor='end'>{last * accumulation:,}</text></svg>"
        f"<figcaption>{legend}</figcaption></figure>"
    )


def _thinned(steps: list[Event]) -> list[Event]:
    """Not more than so many that each has a pixel or two; the last is always there."""
    every = -(-len(steps) // _POINTS)
    return [*steps[:-1:every], steps[-1]] if every > 1 else steps


def _line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def sample_html(event: Event | None) -> str:
    """What the half-trained model said."""
    if event is None:
        return ""
    said = escape(event.text) or "<i>nothing</i>"
    return f"<div class='said'><span>{escape(event.prompt)}</span><mark>{said}</mark></div>"


def duration(seconds: float) -> str:
    """Like 45 s, 12 min, 3 h 05 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole / 60:.0f} min" if whole < 5400 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
