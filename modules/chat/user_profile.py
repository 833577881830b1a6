"""Who the user is in chats: the picture, and profiles of a name, a description and a picture, to change between.

The picture is where the original stores it (cache/pfp_me.png), and so are the profiles (users/NAME.yaml, .yml or .json,
and a picture beside it). This module knows nothing of prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from errors import InvalidInput, Unavailable
from modules.chat.formats.character_cards import to_png
from modules.config.atomic import write_bytes
from modules.config.named_files import NamedFiles
from modules.config.paths import Paths, safe_child
from modules.config.yaml_file import read_mapping, write_mapping

_SUFFIXES = (".yaml", ".yml", ".json")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Profile:
    """`name` and `bio` as in a chat; `picture`: its file."""

    name: str
    bio: str = ""
    picture: Path | None = None


class UserProfile(NamedFiles):
    """The user of this installation: the current picture, and the profiles by the names of their files."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths.users, _SUFFIXES, "profile")
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

    def load(self, name: str) -> Profile:
        """Read a profile. Raises: UnknownName, InvalidName, BadFile."""
        values = read_mapping(self.require(name))
        called, bio = (str(values.get(key) or "").strip() for key in ("name", "user_bio"))
        return Profile(called or name, bio, self._picture_of(name))

    def use(self, name: str) -> Profile:
        """Read a profile, and make its picture the user's; without one, the picture of another profile is removed, and
        one that is in no profile stays. Raises: UnknownName, InvalidName, BadFile, InvalidInput, Unavailable.
        """
        profile = self.load(name)
        if profile.picture:
            self.set_picture(_read(profile.picture))
        elif self._is_of_a_profile():
            self.set_picture(None)
        return profile

    def keep(self, name: str, bio: str) -> str:
        """Save name, description and the current picture as the profile of this name; other keys of its file are kept.

        Returns the name. Raises: InvalidInput, InvalidName, BadFile, Unavailable.
        """
        name = name.strip()
        if not name:
            raise InvalidInput("Enter your name first: the profile is saved under it.")
        path = self.find(name)
        before = read_mapping(path) if path else {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_mapping(path or self.new_path(name), {**before, "name": name, "user_bio": bio.strip()})
            if self.picture:  # first, so that none is lost if the disk is full
                write_bytes(safe_child(self.folder, name, ".png"), self.picture.read_bytes())
            for suffix in _PICTURES[1:] if self.picture else _PICTURES:
                safe_child(self.folder, name, suffix).unlink(missing_ok=True)
        except (OSError, UnicodeEncodeError) as error:
            raise Unavailable(f"The profile could not be saved to {self.folder} ({error}).") from None
        return name

    def _picture_of(self, name: str) -> Path | None:
        return next(filter(Path.is_file, (safe_child(self.folder, name, suffix) for suffix in _PICTURES)), None)

    def _is_of_a_profile(self) -> bool:
        """Whether the current picture is one of the profiles, so that it is not lost."""
        if not self.picture:
            return False
        current = self.picture.read_bytes()
        pictures = [found for name in self.names() if (found := self._picture_of(name))]
        return any(current in (_read(each), to_png(_read(each))) for each in pictures)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"The picture {path} cannot be read ({error.strerror}).") from None
