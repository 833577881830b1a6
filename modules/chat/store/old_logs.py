"""Moves the chats of the original's versions of 2023, one file per character directly in logs/, to where chats are.

Later versions of the original do the same: logs/NAME_persistent.json and logs/persistent_NAME.json become
logs/chat/NAME/DATE.json. It must not know what else is in logs/.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from errors import InvalidName
from modules.chat.formats.conversation_file import InvalidConversation, parse_conversation
from modules.config.paths import safe_child

_OLD = re.compile(r"(?:persistent_(?P<before>.+)|(?P<after>.+)_persistent)\.json")


def move_old_chats(logs: Path) -> list[str]:
    """Move them; returns a sentence for each. A file that contains no chat, or cannot be moved, stays."""
    moved = []
    for path in sorted(logs.glob("*persistent*.json")):
        match = _OLD.fullmatch(path.name)
        if not match or not path.is_file():
            continue
        character = match["before"] or match["after"]
        with contextlib.suppress(InvalidName, InvalidConversation, OSError, UnicodeDecodeError):
            changed = path.stat().st_mtime
            parse_conversation("", path.read_text(encoding="utf-8-sig"), changed)
            folder = safe_child(logs / "chat", character)
            folder.mkdir(parents=True, exist_ok=True)
            stamp, number = time.strftime("%Y%m%d-%H-%M-%S", time.localtime(changed)), 1
            while (target := folder / f"{stamp}{f'-{number}' if number > 1 else ''}.json").exists():
                number += 1
            path.rename(target)
            moved.append(
                f"{path.name}, a chat of an old version, is now {target.relative_to(logs).as_posix()} in logs."
            )
    return moved
