"""Pictures of characters and of the user as parts of the page: none of their files needs a place on the web."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from errors import UserError
from modules.chat.cards import thumbnail


def data_uri(path: Path | None) -> str:
    """A small copy of a picture; "" for none, or one that cannot be read."""
    try:
        made = thumbnail(path, path.stat().st_mtime_ns) if path else b""
    except (UserError, OSError):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(made).decode() if made else ""


def face_style(side: str, name: str, picture: Path | None) -> str:
    """A name over the messages of one side ("reply" or "your"), and the face beside them, for the style sheet."""
    quoted = _css_string(name)
    uri = data_uri(picture)
    face = f"; --{side}-picture: url('{uri}'); --{side}-inset: var(--face)" if uri else ""
    return f"<style>body {{ --{side}-name: {quoted}{face} }}</style>"


def _css_string(text: str) -> str:
    """A text in quotes for a style sheet, which has escapes of its own. Nothing in it ends the quotes or the tag."""
    return '"' + re.sub(r'[\x00-\x1f\x7f"\\<>]', lambda found: f"\\{ord(found[0]) or 0xFFFD:x} ", text) + '"'
