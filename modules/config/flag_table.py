"""The tables of flags in the documents, generated from the flag catalog. `python docs/make.py` writes them."""

from __future__ import annotations

from modules.config.flag_catalog import FlagCatalog, Loaders
from modules.config.flag_help import describe_flag


def render_table(loaders: Loaders) -> str:
    """The flags of this program as Markdown, one table per group."""
    parts: list[str] = []
    for title, flags in FlagCatalog.of(loaders).titles().items():
        parts.append(f"## {title}\n")
        parts.append("| flag | meaning |\n| --- | --- |")
        parts += [f"| `{_cell(flag.shown)}` | {_cell(describe_flag(flag))} |" for flag in flags]
        parts.append("")
    return "\n".join(parts)


def render_ignored(loaders: Loaders) -> str:
    """The flags of the original that are accepted without an effect, and why."""
    reasons: dict[str, list[str]] = {}
    for flag in FlagCatalog.of(loaders).foreign.values():
        reasons.setdefault(flag.why, []).append("`--" + flag.name.replace("_", "-") + "`")
    rows = [f"| {' '.join(names)} | {_cell(why)} |" for why, names in reasons.items()]
    return "\n".join(["| flags | why |", "| --- | --- |", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
