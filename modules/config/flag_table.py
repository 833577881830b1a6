"""The table of flags in README.md, made from the catalogue: `python -m modules.config.flag_table [--check]`.

Without an argument the README is rewritten between its two markers; with `--check` it only fails when the README says
something else than the program.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from errors import BadFile
from modules.config.atomic import write_text
from modules.config.catalogue import Catalogue, Loaders
from modules.config.flag_help import explanation

BEGIN, END = "<!-- flags:begin -->", "<!-- flags:end -->"


def render_table(loaders: Loaders) -> str:
    """All flags as Markdown: one table a group, and the flags without a meaning with the reason."""
    catalogue = Catalogue.of(loaders)
    parts: list[str] = []
    for title, flags in catalogue.titles().items():
        parts.append(f"**{title}**\n")
        parts.append("| flag | meaning |\n| --- | --- |")
        parts += [f"| `{_cell(flag.shown)}` | {_cell(explanation(flag))} |" for flag in flags]
        parts.append("")
    reasons: dict[str, list[str]] = {}
    for flag in catalogue.foreign.values():
        reasons.setdefault(flag.why, []).append("`--" + flag.name.replace("_", "-") + "`")
    parts.append("**Flags of the original that are accepted and do nothing here**\n")
    parts.append("| flags | why |\n| --- | --- |")
    parts += [f"| {' '.join(names)} | {_cell(why)} |" for why, names in reasons.items()]
    return "\n".join(parts) + "\n"


def embed(text: str, table: str) -> str:
    """The text with the table between its markers. Raises: BadFile, when the markers are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadFile("README.md", f"the markers {BEGIN} and {END} are missing", "Put them where the table belongs.")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main(argv: Sequence[str], readme: Path, loaders: Loaders) -> int:
    """Rewrite or check the README; 1 when it was checked and is out of date."""
    old = readme.read_text(encoding="utf-8")
    new = embed(old, render_table(loaders))
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
