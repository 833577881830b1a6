"""The table of flags in README.md, generated from the flag catalog: `python -m modules.config.flag_table [--check]`.

Without an argument it rewrites the README between its two markers; with `--check` it only fails if the README is out of
date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from errors import BadFile
from modules.config.atomic import write_text
from modules.config.flag_catalog import FlagCatalog, Loaders
from modules.config.flag_help import describe_flag

BEGIN, END = "<!-- flags:begin -->", "<!-- flags:end -->"


def render_table(loaders: Loaders) -> str:
    """All flags as Markdown: one table per group, and the ignored flags with the reason."""
    catalogue = FlagCatalog.of(loaders)
    parts: list[str] = []
    for title, flags in catalogue.titles().items():
        parts.append(f"**{title}**\n")
        parts.append("| flag | meaning |\n| --- | --- |")
        parts += [f"| `{_cell(flag.shown)}` | {_cell(describe_flag(flag))} |" for flag in flags]
        parts.append("")
    reasons: dict[str, list[str]] = {}
    for flag in catalogue.foreign.values():
        reasons.setdefault(flag.why, []).append("`--" + flag.name.replace("_", "-") + "`")
    parts.append("**Flags of the original that are accepted but have no effect**\n")
    parts.append("| flags | why |\n| --- | --- |")
    parts += [f"| {' '.join(names)} | {_cell(why)} |" for why, names in reasons.items()]
    return "\n".join(parts) + "\n"


def embed_table(text: str, table: str) -> str:
    """The text with the table between its markers. Raises: BadFile if the markers are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadFile("README.md", f"the markers {BEGIN} and {END} are missing", "Add them where the table belongs.")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main(argv: Sequence[str], readme: Path, loaders: Loaders) -> int:
    """Rewrite or check the README; 1 if it was checked and is out of date."""
    old = readme.read_text(encoding="utf-8")
    new = embed_table(old, render_table(loaders))
    if "--check" in argv:
        if new != old:
            sys.stderr.write(f"{readme.name} is out of date. Run: python -m modules.config.flag_table\n")
        return int(new != old)
    if new != old:
        write_text(readme, new)
    return 0


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    from loaders import LOADERS

    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[2] / "README.md", LOADERS))
