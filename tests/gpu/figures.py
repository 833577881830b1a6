"""A figure of a check, and the table of figures. Knows nothing of models or GPUs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """What was measured, as text, and the requirement; `ok` is None without a requirement."""

    step: str
    what: str
    value: str
    wanted: str = ""
    ok: bool | None = None


def at_least(step: str, what: str, value: float, bound: float) -> Figure:
    return Figure(step, what, f"{value:.3f}", f"at least {bound:g}", value >= bound)


def at_most(step: str, what: str, value: float, bound: float) -> Figure:
    return Figure(step, what, f"{value:.4g}", f"at most {bound:g}", value <= bound)


def same(step: str, what: str, yes: bool) -> Figure:
    return Figure(step, what, "the same" if yes else "different", "the same", yes)


def table(figures: Iterable[Figure]) -> str:
    """The Markdown table of docs/gpu.md."""
    lines = ["| step | figure | value | wanted | |", "| --- | --- | --- | --- | --- |"]
    marks = {True: "ok", False: "**missed**", None: ""}
    for each in figures:
        cells = (each.step, each.what, each.value, each.wanted, marks[each.ok])
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def save(path: Path, figures: Iterable[Figure]) -> None:
    path.write_text(json.dumps([asdict(each) for each in figures], indent=1))


def load(path: Path) -> list[Figure]:
    return [Figure(**each) for each in json.loads(path.read_text())]
