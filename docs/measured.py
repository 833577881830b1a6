"""The README's measured figures, from the tables of docs/benchmarks.md, so that a new measurement changes both."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).with_name("benchmarks.md")
_ROW = re.compile(
    r"\| (?P<name>[^|]+) \| (?P<ours>[\d.e+-]+) [^|]* \| (?P<peer>[\d.e+-]+) [^|]* \| \*\*(?P<ratio>[\d.]+)\*\*"
)


@dataclass(frozen=True)
class Measured:
    """A row of the benchmarks: the medians of both sides, and their ratio."""

    ours: float
    peer: float
    ratio: float


def read_figure(text: str, section: str, name: str) -> Measured:
    """The first row of a section whose name begins so. Raises: KeyError."""
    for line in text.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines():
        row = _ROW.match(line)
        if row and row["name"].startswith(name):
            return Measured(float(row["ours"]), float(row["peer"]), float(row["ratio"]))
    raise KeyError(f"docs/benchmarks.md has no row {name!r} in {section}")


def measured_lines(text: str = "") -> str:
    """The lines below "Measured" that come from the benchmarks."""
    text = text or BENCHMARKS.read_text("utf-8")
    one = read_figure(text, "llama_server", "one stream")
    four = read_figure(text, "llama_server", "4 streams")
    page = read_figure(text, "processes", "4 streams over HTTP while our page is being clicked")
    turn = read_figure(text, "llama_server", "second turn at 2,000 tokens")
    back = read_figure(text, "llama_server", "A, B, A")
    chain = read_figure(text, "samplers", "preset simple-1, 150,000 tokens")
    forecast = read_figure(text, "forecast", "worst of 45")
    lines = (
        f"one stream: {one.ratio:.2f} of llama-server's speed; four: {four.ratio:.2f}, and {page.ratio:.2f} while the "
        f"page is used on the same cores; second turn at 2,000 tokens: first token in {turn.ours:.0f} ms "
        f"({turn.peer:.0f} ms)",
        f"going back to an earlier chat: {back.ours:.2g} s instead of {back.peer:.2g} s for reading it again",
        f"preset simple-1, vocabulary of 150,000: samplers take {chain.ours:.2g} ms per token (llama.cpp's chain: "
        f"{chain.peer:.2g} ms)",
        f"forecast: at most {forecast.ours:.2g} % off in 45 cases of quantization, cache type and context",
    )
    wrapped = (textwrap.fill(f"- {line}", 118, subsequent_indent="  ", break_on_hyphens=False) for line in lines)
    return "\n".join(wrapped) + "\n"
