"""Numbers and names as the page writes them: sizes, counts, days. Knows no gradio and no service."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

#: Endings that say nothing a person needs in the bar.
_SUFFIXES = (".gguf",)


def escape(text: object) -> str:
    """Text made safe to stand in HTML, also inside a quoted attribute."""
    return html.escape(str(text), quote=True)


def gigabytes(size: int) -> str:
    """A size in bytes: "0.1 GB", "38 GB"."""
    amount = size / 1e9
    return f"{amount:.1f} GB" if amount < 9.95 else f"{amount:.0f} GB"


def thousands(tokens: int) -> str:
    """A context length as people say it: "8k", "512"."""
    if tokens < 1000:
        return str(tokens)
    return f"{tokens / 1024:.0f}k" if tokens % 1024 == 0 else f"{tokens / 1000:.0f}k"


def short_name(model: str) -> str:
    """A model's name without its file ending."""
    for suffix in _SUFFIXES:
        if model.lower().endswith(suffix):
            return model[: -len(suffix)]
    return model


def parts(*pieces: str) -> str:
    """Facts on one line, the empty ones left out: "8k · 0.1 GB"."""
    return " · ".join(piece for piece in pieces if piece)


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 token", "1,024 tokens"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def day(moment: datetime, today: date) -> str:
    """The day as a heading: "Today", "Yesterday", "Monday", "3 March", "3 March 2024"."""
    then = moment.date()
    if then >= today:
        return "Today"
    if then == today - timedelta(days=1):
        return "Yesterday"
    if then > today - timedelta(days=7):
        return f"{then:%A}"
    return f"{then.day} {then:%B}" if then.year == today.year else f"{then.day} {then:%B %Y}"


def number(value: object) -> str:
    """A knob's value, short: 0.7, 1, "on"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def table(rows: Mapping[str, str] | Iterable[tuple[str, str]], caption: str) -> str:
    """Two columns as an HTML table, escaped."""
    pairs = rows.items() if isinstance(rows, Mapping) else rows
    body = "".join(f"<tr><th scope='row'>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in pairs)
    return f"<table class='facts'><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"
