"""What the model got for each reply: the exact prompt and what it was asked for, kept beside the conversation.

logs/.../.ID.prompts/MESSAGE.json.gz, one small file a reply, the newest hundred of a conversation. Losing one loses no
word of the conversation: whoever cannot be written is a line in the log. This module knows nothing of how a prompt is
made.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from errors import NotFound
from loaders import plain_json
from modules.chat.prompt_parts import Part

log = logging.getLogger(__name__)

#: How many are kept of each conversation.
MOST = 100
_GONE = (
    "The prompt of this reply is not kept. Those of the newest hundred replies of a chat are, from the time on when "
    "this program made them."
)


@dataclass(frozen=True)
class Record:
    """One reply's prompt. `left_out`: how many older messages are not in it; `room`: the tokens it might have had."""

    text: str
    parts: tuple[Part, ...] = ()
    tokens: int = 0
    room: int = 0
    left_out: int = 0
    stop: tuple[str, ...] = ()
    mode: str = ""
    character: str = ""
    template: str = ""  # where the instruction template came from
    params: Mapping[str, Any] = field(default_factory=dict)  # the knobs that differ from neutral
    notes: tuple[str, ...] = ()  # what was changed for the template, or left out


class Records:
    """The records of one conversation, in their folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, message_id: str, record: Record) -> None:
        """Write a reply's record; the oldest beyond MOST go."""
        value = asdict(record)
        value["parts"] = [[part.kind, part.start, part.end] for part in record.parts]
        text = json.dumps(value, ensure_ascii=False, default=str)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # not forced to the disk: a reply does not wait for that
            self._file(message_id).write_bytes(gzip.compress(text.encode("utf-8", "backslashreplace"), 1))
            known = sorted(self._folder.glob("*.json.gz"), key=lambda path: path.stat().st_mtime_ns)
            for old in known[:-MOST]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("The prompt of a reply cannot be kept in %s: %s", self._folder, error)

    def load(self, message_id: str) -> Record:
        """A reply's record. Raises: NotFound."""
        try:
            value = plain_json.loads(gzip.decompress(self._file(message_id).read_bytes()))
            value["parts"] = tuple(Part(*each) for each in value["parts"])
            value["stop"], value["notes"] = tuple(value["stop"]), tuple(value.get("notes", ()))
            return Record(**value)
        except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError):
            raise NotFound(_GONE) from None

    def move(self, target: Records) -> None:
        """These become those of another conversation."""
        with contextlib.suppress(OSError):
            shutil.rmtree(target._folder, ignore_errors=True)
            self._folder.replace(target._folder)

    def copy(self, target: Records) -> None:
        """Those of another conversation begin with these."""
        with contextlib.suppress(OSError):
            shutil.copytree(self._folder, target._folder, dirs_exist_ok=True)

    def _file(self, message_id: str) -> Path:
        return self._folder / f"{''.join(each if each.isalnum() else '_' for each in message_id)[:64]}.json.gz"


def records_of(conversation: Path) -> Records:
    """The records beside a conversation's file."""
    return Records(conversation.with_name(f".{conversation.stem}.prompts"))
