"""The text of `python server.py --help`, made from the catalogue of flags."""

from __future__ import annotations

import shutil
import textwrap

from modules.config.catalogue import Catalogue, Flag, not_yet

_COLUMN = 30  # where the explanations begin


def render_help(catalogue: Catalogue, width: int | None = None) -> str:
    """All flags, grouped, wrapped to the terminal."""
    width = max(60, min(width or shutil.get_terminal_size().columns, 110))
    lines = [
        "python server.py [FLAGS]      or: ./start_linux.sh [FLAGS]      or: flags in CMD_FLAGS.txt",
        "",
        "- and _ are the same in a flag's name. The command line wins over CMD_FLAGS.txt.",
    ]
    for title, flags in catalogue.titles().items():
        lines += ["", f"{title}:"]
        for flag in flags:
            lines += _entry(flag.shown, explanation(flag), width)
    lines += ["", "Accepted for the original's sake, without a meaning here:"]
    names = " ".join("--" + name.replace("_", "-") for name in sorted(catalogue.foreign))
    lines += textwrap.wrap(names, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def explanation(flag: Flag) -> str:
    """What the flag does, with its default and other spellings."""
    text = flag.knob.help_off if flag.is_negated else flag.knob.help
    if flag.shown_default:
        text += f" Default: {flag.shown_default}."
    if flag.knob.aliases:
        text += " Also: " + ", ".join("--" + alias.replace("_", "-") for alias in flag.knob.aliases) + "."
    if not_yet(flag):
        text += f" Not yet: {not_yet(flag)}"
    return text


def _entry(shown: str, text: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(text, width - _COLUMN, break_on_hyphens=False) or [""]
    head = f"  {shown}"
    if len(head) >= _COLUMN - 1:
        return [head, *(" " * _COLUMN + line for line in wrapped)]
    return [head.ljust(_COLUMN) + wrapped[0], *(" " * _COLUMN + line for line in wrapped[1:])]
