"""The text of `python server.py --help`, generated from the flag catalog."""

from __future__ import annotations

import shutil
import textwrap

from modules.config.flag_catalog import Flag, FlagCatalog, explain_inactive

_COLUMN = 30  # column where the explanations begin


def render_help(catalogue: FlagCatalog, width: int | None = None) -> str:
    """All flags, grouped and wrapped to the terminal's width."""
    width = max(60, min(width or shutil.get_terminal_size().columns, 110))
    lines = [
        "python server.py [FLAGS]      or: ./start_linux.sh [FLAGS]      or: flags in CMD_FLAGS.txt",
        "",
        "Flag names may use - or _. The command line overrides CMD_FLAGS.txt.",
    ]
    for title, flags in catalogue.titles().items():
        lines += ["", f"{title}:"]
        for flag in flags:
            lines += _entry(flag.shown, describe_flag(flag), width)
    lines += ["", "Accepted for compatibility; these flags have no effect:"]
    names = " ".join("--" + name.replace("_", "-") for name in sorted(catalogue.foreign))
    lines += textwrap.wrap(names, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def describe_flag(flag: Flag) -> str:
    """What the flag does, with its default and other spellings."""
    text = flag.knob.help_off if flag.is_negated else flag.knob.help
    if flag.shown_default:
        text += f" Default: {flag.shown_default}."
    if flag.knob.aliases:
        text += " Also: " + ", ".join("--" + alias.replace("_", "-") for alias in flag.knob.aliases) + "."
    if explain_inactive(flag):
        text += f" Not implemented yet: {explain_inactive(flag)}"
    return text


def _entry(shown: str, text: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(text, width - _COLUMN, break_on_hyphens=False) or [""]
    head = f"  {shown}"
    if len(head) >= _COLUMN - 1:
        return [head, *(" " * _COLUMN + line for line in wrapped)]
    return [head.ljust(_COLUMN) + wrapped[0], *(" " * _COLUMN + line for line in wrapped[1:])]
