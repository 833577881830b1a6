"""Shows a training as HTML: the data preview, the curves and the state. Knows no gradio.

Each function converts a record of `modules.training` to HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from modules.training.data.preview import DatasetPreview, PreviewSample
from modules.training.lora.events import TrainingEvent
from modules.training.manager import TrainingState
from modules.ui.parts.formatting import escape, join_facts
from modules.ui.parts.sentences import translated
from modules.ui.texts import tr

_WIDE, _HIGH, _LEFT, _RIGHT, _FOOT = 720, 220, 48, 64, 24
_POINTS = 400  # points of a curve at most
_SMOOTHED = 20  # points from which on a smoothed line is drawn over them


# --- the preview ---


def preview_html(look: DatasetPreview) -> str:
    """Counts, memory, lengths, notes and samples."""
    notes = "".join(f"<li>{escape(translated(note))}</li>" for note in look.notes)
    examples = "training.examples_blocks" if look.kind.startswith("blocks") else "training.examples_rows"
    facts = [
        (look.examples, examples, look.rows),
        (look.tokens, "training.tokens", look.learned),
        (look.steps, "training.steps_time" if look.seconds else "training.steps", duration(look.seconds or 0)),
        (look.longest_tokens, "training.longest", look.longest_row),
    ]
    tiles = "".join(
        f"<div><b>{tr('training.number', n=n)}</b>"
        f"<small>{escape(tr(key, n=n, rows=more, learned=more, time=more, row=more))}</small></div>"
        for n, key, more in facts
    )
    shown = "".join(_sample(each) for each in look.samples)
    kind = escape(translated(look.kind[:1].upper() + look.kind[1:]))
    return (
        f"<div class='look'><p>{kind}.</p><div class='tiles'>{tiles}</div>"
        f"{_lengths(look)}{_memory(look)}<ul class='notes'>{notes}</ul>"
        f"<h3>{tr('training.seen_title')}</h3><p>{tr('training.seen_about')}</p>{shown}</div>"
    )


def _memory(look: DatasetPreview) -> str:
    sizes = {
        "weights": look.weights, "adapter": look.adapter, "activations": look.activations, "program": look.program,
    }  # fmt: skip
    amounts = [(tr(f"training.memory.part.{part}"), size) for part, size in sizes.items()]
    whole = max(look.needed, look.free)
    bars = "".join(
        f"<span class='part-{place}' style='width:{100 * size / whole:.2f}%' "
        f"title='{name} {tr('unit.gb_exact', n=size / 1e9)}'></span>"
        for place, (name, size) in enumerate(amounts)
    )
    told = ", ".join(f"{name} {tr('unit.exact', n=size / 1e9)}" for name, size in amounts if size)
    where = tr(f"training.memory.where.{'main' if look.where == 'memory' else 'gpu'}")
    verdict = "training.memory.fits" if look.needed <= look.free else "training.memory.too_big"
    said = tr(verdict, needed=look.needed / 1e9, free=look.free / 1e9, where=where, parts=told)
    return (
        f"<div class='memory{'' if look.needed <= look.free else ' too-much'}'><div class='bar'>{bars}</div>"
        f"<small>{said}</small></div>"
    )


def _lengths(look: DatasetPreview) -> str:
    most = max(each.count for each in look.bins)
    bars = "".join(
        f"<span style='height:{max(100 * each.count / most, 2 if each.count else 0):.0f}%' "
        f"title='{tr('training.bin', n=each.count, least=each.least, most=each.most)}'></span>"
        for each in look.bins
    )
    least, longest = look.bins[0].least, look.bins[-1].most
    said = tr("training.lengths", least=least, longest=longest)
    return (
        f"<figure class='lengths' role='img' aria-label='{said}'><div>{bars}</div>"
        f"<figcaption>{said}.</figcaption></figure>"
    )


def _sample(one: PreviewSample) -> str:
    pieces: list[str] = []
    learned = None
    for piece in one.pieces:
        if piece.learned != learned:
            pieces.append(("</mark>" if learned else "") + ("<mark>" if piece.learned else ""))
            learned = piece.learned
        pieces.append(f"<span title='{piece.id}'>{escape(piece.text)}</span>")
    more = f" &hellip; {tr('training.more_tokens', n=one.more)}" if one.more else ""
    end = ("</mark>" if learned else "") + more
    head = tr("training.row", row=one.row, tokens=tr("unit.tokens", n=one.tokens))
    return f"<details open><summary>{head}</summary><pre>{''.join(pieces)}{end}</pre></details>"


# --- the run ---


def state_html(state: TrainingState, loras: Path) -> str:
    """The state as text, with a progress bar."""
    if state.phase == "none":
        return ""
    notes = "".join(f"<li>{escape(translated(note))}</li>" for note in state.notes)
    listed = f"<ul class='notes'>{notes}</ul>" if notes else ""
    if state.phase == "failed":
        return f"<p class='warning' role='alert'>{escape(translated(state.error))}</p>{listed}"
    name = state.settings.lora_name if state.settings else ""
    if state.phase == "done" and state.end:
        end, last = state.end, state.steps[-1] if state.steps else None
        why = tr(f"training.end.{end.text.partition(' ')[0]}", name=escape(name))
        loss = tr("training.loss_value", n=last.loss) if last and last.loss is not None else ""
        every = state.ready.accumulation if state.ready else 1
        told = join_facts(
            tr("training.step", step=end.update * every, steps=end.updates * every), loss,
            tr("unit.tokens_second", n=end.tokens_per_second), tr("training.took", time=duration(end.seconds)),
            f"{loras / name}",
        )  # fmt: skip
        return f"<p>{why} {escape(told)}</p>{listed}"
    if not state.ready or not state.steps:
        doing = translated(state.doing) or tr("training.first_batch")
        return f"<p aria-live='polite'>{escape(join_facts(name, doing))} &hellip;</p>{listed}"
    last, ready = state.steps[-1], state.ready
    percent = round(100 * last.update / max(last.updates, 1))
    steps = tr("training.step", step=last.update * ready.accumulation, steps=last.updates * ready.accumulation)
    left = tr("unit.left", time=duration(last.seconds_left)) if last.seconds_left is not None else ""
    facts = join_facts(
        name, steps, tr("training.epoch", n=last.epoch), tr("training.loss_value", n=last.loss),
        tr("unit.tokens_second", n=last.tokens_per_second), left,
        tr("training.checkpoint", n=state.checkpoint * ready.accumulation) if state.checkpoint else "",
    )  # fmt: skip
    doing = f"<p>{escape(translated(state.doing))} &hellip;</p>" if state.doing else ""
    return (
        f"<div role='progressbar' aria-valuenow='{percent}' aria-valuemin='0' aria-valuemax='100' "
        f"aria-label='{escape(tr('training.progress'))}'><span style='width:{percent}%'></span></div>"
        f"<p>{escape(facts)}</p>{doing}{listed}"
    )


def curves_svg(state: TrainingState) -> str:
    """Loss, evaluation loss and learning rate over the steps, as an SVG image; empty before the first step."""
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

    def across(event: TrainingEvent) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * (event.update - first) / (last - first)

    def down(share: float) -> float:
        return 8 + (_HIGH - 16) * (1 - share)

    places = [across(event) for event in steps]
    raw = [event.loss or 0.0 for event in steps]
    mean = _smoothed(raw)
    lines = [("raw", raw), ("loss", mean)] if mean else [("loss", raw)]

    def height(value: float) -> float:
        return down((value - low) / (top - low))

    loss = "".join(
        f"<polyline class='{kind}' points='{_line(zip(places, map(height, values), strict=True))}'/>"
        for kind, values in lines
    )
    rate = _line((across(event), down((event.learning_rate or 0.0) / fastest)) for event in steps)
    held = [(across(event), height(event.loss or 0.0)) for event in state.evaluations]
    dots = "".join(f"<circle class='eval' cx='{x:.1f}' cy='{y:.1f}' r='3'/>" for x, y in held)
    evaluation = f"<polyline class='eval' points='{_line(held)}'/>{dots}" if held else ""
    ticks = "".join(
        f"<line class='grid' x1='{_LEFT}' x2='{_WIDE - _RIGHT}' y1='{down(share):.1f}' y2='{down(share):.1f}'/>"
        f"<text x='{_LEFT - 6}' y='{down(share) + 4:.1f}' text-anchor='end'>{low + (top - low) * share:.2f}</text>"
        for share in (0.0, 0.5, 1.0)
    )
    said = tr(
        "training.curve_eval" if state.evaluations else "training.curve",
        loss=steps[-1].loss, step=steps[-1].update * accumulation,
        evaluation=state.evaluations[-1].loss if state.evaluations else 0,
    )  # fmt: skip
    legend = (
        f"<span class='key loss'></span>{tr('training.loss_smoothed' if mean else 'training.loss')}"
        + (f" <span class='key eval'></span>{tr('training.evaluation')}" if held else "")
        + f" <span class='key rate'></span>{tr('training.rate')}"
    )
    return (
        f"<figure class='curve training-curve'><svg role='img' viewBox='0 0 {_WIDE} {_HIGH + _FOOT}' "
        f"aria-label='{escape(said)}'>{ticks}<polyline class='rate' points='{rate}'/>"
        f"{loss}{evaluation}"
        f"<text x='{_WIDE - _RIGHT + 6}' y='{down(1) + 4:.1f}'>{fastest:.0e}</text>"
        f"<text x='{_WIDE - _RIGHT + 6}' y='{down(0) + 4:.1f}'>0</text>"
        f"<text x='{_LEFT}' y='{_HIGH + 16}'>{tr('training.curve_step', n=first * accumulation)}</text>"
        f"<text x='{_WIDE - _RIGHT}' y='{_HIGH + 16}' text-anchor='end'>"
        f"{tr('training.number', n=last * accumulation)}</text></svg>"
        f"<figcaption><p>{escape(said)}</p>{legend}</figcaption></figure>"
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a tenth of the values; empty if there are too few."""
    if len(values) < _SMOOTHED:
        return []
    weight = 2 / (1 + len(values) / 10)
    return list(accumulate(values, lambda mean, value: mean + weight * (value - mean)))


def _thinned(steps: list[TrainingEvent]) -> list[TrainingEvent]:
    """At most so many points that each has a pixel or two; the last is always included."""
    every = -(-len(steps) // _POINTS)
    return [*steps[:-1:every], steps[-1]] if every > 1 else steps


def _line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def sample_html(event: TrainingEvent | None) -> str:
    """The sample from the half-trained model."""
    if event is None:
        return ""
    said = escape(event.text) or f"<i>{tr('training.nothing')}</i>"
    return f"<div class='said'><span>{escape(event.prompt)}</span><mark>{said}</mark></div>"


def duration(seconds: float) -> str:
    """Like 45 s, 12 min, 3 h 05 min."""
    whole = round(seconds)
    if whole < 100:
        return tr("unit.seconds", s=whole)
    if whole < 5400:
        return tr("unit.minutes", min=round(whole / 60))
    return tr("unit.hours", h=whole // 3600, min=whole % 3600 // 60)
