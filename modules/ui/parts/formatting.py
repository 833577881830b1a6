"""Formats numbers and names in the page's language: sizes, days, values. Knows no service."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta

from modules.ui.texts import current_texts, tr

#: File extensions that are omitted in the header.
_SUFFIXES = (".gguf", ".remote.yaml")


def escape(text: object) -> str:
    """Escape text for HTML, also inside a quoted attribute."""
    return html.escape(str(text), quote=True)


def format_gigabytes(size: int) -> str:
    """A size in bytes: "0.1 GB", "38 GB"."""
    amount = size / 1e9
    return tr("unit.gb" if amount < 9.95 else "unit.gb_whole", n=amount)


def fit_words(words: str) -> str:
    """Where a model fits ("fits in memory"), in the page's language."""
    name = words.lower().replace(" ", "_")
    return tr(f"fit.{name}") if current_texts().has(f"fit.{name}") else words


def format_thousands(tokens: int) -> str:
    """A context length as commonly written: "8k", "512"."""
    if tokens < 1000:
        return str(tokens)
    return f"{tokens / 1024:.0f}k" if tokens % 1024 == 0 else f"{tokens / 1000:.0f}k"


def short_name(model: str) -> str:
    """A model's name without its file extension."""
    for suffix in _SUFFIXES:
        if model.lower().endswith(suffix):
            return model[: -len(suffix)]
    return model


def join_facts(*pieces: str) -> str:
    """Facts on one line, without the empty ones: "8k · 0.1 GB"."""
    return " · ".join(piece for piece in pieces if piece)


def format_day(moment: datetime, today: date) -> str:
    """The day as a heading: "Today", "Yesterday", "Monday", "3 March", "3 March 2024"."""
    then = moment.date()
    if then >= today:
        return tr("day.today")
    if then == today - timedelta(days=1):
        return tr("day.yesterday")
    if then > today - timedelta(days=7):
        return tr(f"day.weekday.{then.weekday()}")
    month = tr(f"day.month.{then.month}")
    key = "day.date" if then.year == today.year else "day.date_year"
    return tr(key, day=then.day, month=month, year=then.year)


def format_value(value: object) -> str:
    """A knob's value in short form: 0.7, 1, "on"."""
    if isinstance(value, bool):
        return tr("value.on" if value else "value.off")
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def table_html(rows: Mapping[str, str] | Iterable[tuple[str, str]], caption: str) -> str:
    """Two columns as an HTML table, escaped."""
    pairs = rows.items() if isinstance(rows, Mapping) else rows
    body = "".join(f"<tr><th scope='row'>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in pairs)
    return f"<table class='facts'><caption>{escape(caption)}</caption><tbody>{body}</tbody></table>"
