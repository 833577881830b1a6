"""A measured figure: two sides measured alternately, medians, spread, the required ratio, and the row in the
document.
"""

from __future__ import annotations

import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Side:
    """One side's measurements, in the figure's unit."""

    name: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.4g} ({min(self.values):.4g} to {max(self.values):.4g})"


def in_turn(rounds: int, ours: Callable[[], float], peer: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Measure both sides alternately (A B, B A, A B ...) after one warm-up each that does not count."""
    ours(), peer()
    a: list[float] = []
    b: list[float] = []
    for i in range(rounds):
        if i % 2:
            b.append(peer())
            a.append(ours())
        else:
            a.append(ours())
            b.append(peer())
        print(f"  round {i + 1} of {rounds}: {a[-1]:.4g} against {b[-1]:.4g}", flush=True)
    return a, b


@dataclass(frozen=True)
class Figure:
    """What was measured and what was required: `bound` is compared with median(ours) / median(peer).

    Without a bound it only explains another figure.
    """

    name: str
    what: str
    unit: str
    ours: Side
    peer: Side
    bound: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float:
        return self.ours.median / self.peer.median

    @property
    def met(self) -> bool:
        if self.bound is None:
            return True
        return self.ratio <= self.bound if self.at_most else self.ratio >= self.bound

    def row(self) -> str:
        wanted = f"{'at most' if self.at_most else 'at least'} {self.bound}"
        verdict = "met" if self.met else "**not met**"
        if self.bound is None:
            wanted = verdict = ""
        return (
            f"| {self.what} | {self.ours} {self.unit} ({self.ours.name}) | {self.peer} {self.unit} ({self.peer.name}) "
            f"| **{self.ratio:.3f}** | {wanted} | {verdict} |"
        )


def write(name: str, figures: Sequence[Figure], notes: str = "") -> None:
    """Print the figures and write them into the document, replacing this name's older section."""
    lines = [
        f"## {name}",
        "",
        f"`python -m bench {name}` · {_machine()}",
        "",
        "| figure | ours: median (spread) | peer: median (spread) | ratio | required | |",
        "| --- | --- | --- | --- | --- | --- |",
        *(figure.row() for figure in figures),
    ]
    if notes:
        lines += ["", notes]
    section = "\n".join(lines) + "\n"
    print(section)
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else "# Measured figures\n"
    text = re.sub(rf"\n## {re.escape(name)}\n.*?(?=\n## |\Z)", "", text, flags=re.S).rstrip("\n")
    DOCUMENT.write_text(f"{text}\n\n{section}", encoding="utf-8")


def _machine() -> str:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("gradio", "llama-cpp-python"))
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d} · commit {commit} · {platform.system()} {platform.machine()}, "
        f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, no GPU · "
        f"Python {platform.python_version()}, {packages}"
    )
