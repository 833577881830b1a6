"""Settings of the original that have no effect here, and which notes were seen already.

So its settings.yaml is used unchanged, and nobody reads the same list at each start. A setting that gets a meaning is
declared in settings.py or loaders.params and removed from this table.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from modules.config.atomic import write_text

_TABLE = {
    "ends of sliders": "max_new_tokens_min max_new_tokens_max truncation_length_min truncation_length_max "
    "chat_prompt_size_min chat_prompt_size_max chat_generation_attempts_min chat_generation_attempts_max",
    "of a character or profile, which has its own file": "user name2 context greeting your_name name1_instruct "
    "name2_instruct context_instruct turn_template",
    "of its page": "show_two_notebook_columns paste_to_attachment include_past_attachments spellcheck "
    "chat_generation_attempts chat_prompt_size stop_at_newline end_of_turn custom_stopping_string "
    "chat_default_extensions presets prompts lora_prompts system_message",
    "not part of this program": "enable_web_search web_search_pages selected_tools mcp_servers confirm_tool_calls "
    "static_cache preserve_thinking",
}
_NAMES = frozenset(name for names in _TABLE.values() for name in names.split())
_PREFIXES = ("image_",)


def is_ignored(name: str) -> bool:
    """Whether this is a setting of the original without a meaning here."""
    return name in _NAMES or name.startswith(_PREFIXES)


class SeenNotes:
    """Remembers in a file which lines were printed at a start: a line comes again when it, or what it is about,
    changes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def unseen(self, lines: Iterable[str]) -> tuple[str, ...]:
        """Those that were not printed at the last start. All of them are remembered, and nothing else."""
        lines = tuple(lines)
        try:
            known = self._file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            known = []
        marks = [hashlib.sha256(line.encode()).hexdigest()[:16] for line in lines]
        if marks != known:
            with contextlib.suppress(OSError):  # printed again at the next start
                write_text(self._file, "\n".join(marks))
        return tuple(line for line, mark in zip(lines, marks, strict=True) if mark not in known)
