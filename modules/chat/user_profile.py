"""The user's profile: the picture, stored where the original stores it (cache/pfp_me.png)."""

from __future__ import annotations

from pathlib import Path

from errors import Unavailable
from modules.chat.formats.character_cards import to_png
from modules.config.atomic import write_bytes
from modules.config.paths import Paths


class UserProfile:
    """The user of this installation."""

    def __init__(self, paths: Paths) -> None:
        self._path = paths.cache / "pfp_me.png"

    @property
    def picture(self) -> Path | None:
        """The picture's file."""
        return self._path if self._path.is_file() else None

    def set_picture(self, data: bytes | None) -> None:
        """Replace or remove the picture. Raises: InvalidInput, Unavailable."""
        try:
            if data is None:
                self._path.unlink(missing_ok=True)
            else:
                write_bytes(self._path, to_png(data))
        except OSError as error:
            raise Unavailable(f"The picture could not be changed ({error.strerror}): {self._path}.") from None
