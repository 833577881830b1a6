"""Pictures of characters and of the user, embedded in the page: their files need no URL."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from errors import UserError
from modules.chat.formats.character_cards import make_thumbnail


def data_uri(path: Path | None) -> str:
    """A thumbnail of a picture as a data URI; "" for none, or one that cannot be read."""
    try:
        made = make_thumbnail(path, path.stat().st_mtime_ns) if path else b""
    except (UserError, OSError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(made).decode() if made else ""


def avatar_style(side: str, name: str, picture: Path | None) -> str:
    """CSS for the name and the picture beside the messages of one side ("reply" or "your")."""
    quoted = _css_string(name)
    uri = data_uri(picture)
    face = f"; --{side}-picture: url('{uri}'); --{side}-inset: var(--face)" if uri else ""
    return f"<style>body {{ --{side}-name: {quoted}{face} }}</style>"


def _css_string(text: str) -> str:
    """A quoted CSS string with CSS escapes. Nothing in it can end the string or the tag."""
    return '"' + re.sub(r'[\x00-\x1f\x7f"\\<>]', lambda found: f"\\{ord(found[0]) or 0xFFFD:x} ", text) + '"'
