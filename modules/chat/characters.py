"""Characters: who the model plays in the chat modes. characters/NAME.yaml (.yml, .json), a picture beside it.

Files of older programs are understood: their spellings mean the same things. A file without a context gets one from
its persona, its scenario and its example dialogue. This module knows nothing of prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import BadFile, Conflict, InvalidInput, InvalidName, Unavailable, UnknownName
from loaders import plain_json
from modules.chat.cards import LARGEST, Card, as_png, card_of, is_card, read_card, read_json, write_card
from modules.config.atomic import write_bytes
from modules.config.paths import Paths, safe_child
from modules.config.yaml_file import parse_mapping, read_mapping, write_mapping

#: The character that is always there, also when its file is not.
DEFAULT = "Assistant"

_SUFFIXES = (".yaml", ".yml", ".json")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_NAME = ("name", "bot", "<|bot|>", "char_name")
_GREETING = ("greeting", "char_greeting")
#: The fields that every card of version 2 has.
_EMPTY_CARD: Mapping[str, Any] = {
    **dict.fromkeys(
        ("description", "personality", "scenario", "mes_example", "creator_notes", "system_prompt",
         "post_history_instructions", "creator", "character_version"), "",
    ),
    "alternate_greetings": [], "tags": [], "extensions": {},
}  # fmt: skip
_LONGEST_FILE = 80, 200  # characters, and bytes: room for a number, the suffix, and what other files add to it
_YOUR_NAME = ("your_name", "user", "<|user|>")


@dataclass(frozen=True)
class Character:
    """`name` is what it is called in the dialogue; `file` what its file is called."""

    file: str
    name: str
    greeting: str = ""
    context: str = ""
    your_name: str = ""  # what the user is called, where the file says it
    picture: Path | None = None
    greetings: tuple[str, ...] = ()  # other ways to begin
    after: str = ""  # said to the model after the history


class Characters:
    """The characters in one folder."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.characters

    def names(self) -> list[str]:
        """The names of all characters' files, sorted without regard to case."""
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        found = {file.stem for file in files if file.suffix in _SUFFIXES and not file.name.startswith(".")}
        return sorted(found | {DEFAULT}, key=str.casefold)

    def load(self, name: str) -> Character:
        """Raises: UnknownName, InvalidName, BadFile."""
        path = next(filter(Path.is_file, (safe_child(self._folder, name, suffix) for suffix in _SUFFIXES)), None)
        if path is None:
            if name == DEFAULT:
                return Character(DEFAULT, "AI")
            raise UnknownName("character", name, self.names())
        values = _read(path)
        card = Card(values["card"]) if isinstance(values.get("card"), dict) else None
        return Character(
            file=name,
            name=_first(values, _NAME).strip() or name,
            greeting=_first(values, _GREETING),
            context=_text(values.get("context")).strip() or _context(values, _first(values, _NAME).strip() or name),
            your_name=_first(values, _YOUR_NAME).strip(),
            picture=self._picture(name),
            greetings=tuple(card.greetings[1:]) if card else (),
            after=card.text("post_history_instructions").replace("{{original}}", "").strip() if card else "",
        )

    def save(self, name: str, *, called: str, greeting: str, context: str, as_new: bool = False) -> None:
        """Write a character; what else its file holds stays.

        Raises: InvalidInput, InvalidName, Conflict, Unavailable.
        """
        path = safe_child(self._folder, name, ".yaml")
        known = self._file(name)
        if as_new and known is not None:
            raise Conflict(f"There is a character {name} already. Choose another name, or save that one.")
        if not called.strip():
            raise InvalidInput("A character needs a name. Write one, then save again.")
        values = {}
        if known is not None:
            values = _read(known)
        for keys in (_NAME, _GREETING, ("context",)):
            for key in keys:
                values.pop(key, None)
        self._write(path, {"name": called.strip(), "greeting": greeting, "context": context, **values})
        if known is not None and known != path:
            known.unlink(missing_ok=True)

    def bring(self, data: bytes, file_name: str) -> str:
        """A character out of a card or a file of another program; the name of its file here.

        Raises: InvalidInput, BadFile, Unavailable.
        """
        suffix = Path(file_name).suffix.lower()
        own = _own_json(data)
        if own is not None or suffix in (".yaml", ".yml"):
            name = self._free(Path(file_name).stem)
            path = safe_child(self._folder, name, ".yaml")
            try:
                values = own or parse_mapping(data.decode("utf-8-sig"), Path(Path(file_name).name))
            except UnicodeDecodeError:
                raise InvalidInput("The file is not UTF-8 text. Save it as UTF-8, then try again.") from None
            if not any(values.get(key) for key in (*_NAME, *_GREETING, "context")):
                raise InvalidInput("The file holds no character: it has no name, no greeting and no context.")
            self._write(path, values)
            return name
        card = read_card(data)
        name = self._free(card.text("name") or Path(file_name).stem)
        self._write(safe_child(self._folder, name, ".yaml"), _values(card, name))
        if card.picture:
            self._write_picture(name, card.picture)
        return name

    def take(self, name: str) -> bytes:
        """The character as a card. Raises: UnknownName, InvalidName, BadFile, InvalidInput."""
        who = self.load(name)
        path = self._file(name)
        values = {} if path is None else _read(path)
        kept = Card(values["card"]) if isinstance(values.get("card"), dict) else Card({})
        data = {**_EMPTY_CARD, **kept.data, "name": who.name, "first_mes": who.greeting}
        if kept.context != who.context:  # it was edited here, or never was a card
            data |= {"description": who.context, "personality": "", "scenario": "", "mes_example": "",
                     "system_prompt": ""}  # fmt: skip
        return write_card(data, who.picture.read_bytes() if who.picture else None)

    def set_picture(self, name: str, data: bytes | None) -> None:
        """Give a character another picture, or none. Raises: UnknownName, InvalidInput, Unavailable."""
        self.load(name)
        if data is not None:
            self._write_picture(name, as_png(data))
            return
        while (old := self._picture(name)) is not None:
            old.unlink()

    def delete(self, name: str) -> None:
        """Remove a character's files; its chats stay. Raises: UnknownName, InvalidName, Unavailable."""
        path = self._file(name)
        if path is None:
            raise UnknownName("character", name, self.names())
        try:
            path.unlink()
            while (picture := self._picture(name)) is not None:
                picture.unlink()
        except OSError as error:
            raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None

    def _file(self, name: str) -> Path | None:
        return next(filter(Path.is_file, (safe_child(self._folder, name, suffix) for suffix in _SUFFIXES)), None)

    def _free(self, wished: str) -> str:
        """A name for a file that no other character has."""
        longest, bytes_ = _LONGEST_FILE
        plain = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', " ", wished).strip(" .")[:longest]
        plain = plain.encode("utf-8", "ignore")[:bytes_].decode("utf-8", "ignore").strip(" .") or "Character"
        try:
            safe_child(self._folder, plain, ".yaml")
        except InvalidName:  # Windows keeps it for a device
            plain = f"_{plain}"
        number = 1
        while self._file(name := plain if number == 1 else f"{plain} {number}") is not None:
            number += 1
        return name

    def _write(self, path: Path, values: Mapping[str, Any]) -> None:
        try:
            write_mapping(path, dict(values))
        except (OSError, UnicodeEncodeError, ValueError) as error:
            raise Unavailable(f"The character cannot be saved to {path} ({error}).") from None

    def _write_picture(self, name: str, data: bytes) -> None:
        for suffix in _PICTURES[1:]:
            safe_child(self._folder, name, suffix).unlink(missing_ok=True)
        try:
            write_bytes(safe_child(self._folder, name, ".png"), data)
        except OSError as error:
            raise Unavailable(f"The picture cannot be saved ({error.strerror}).") from None

    def _picture(self, name: str) -> Path | None:
        return next(filter(Path.is_file, (safe_child(self._folder, name, suffix) for suffix in _PICTURES)), None)


def with_names(text: str, user: str, character: str) -> str:
    """A character's text with the names put in: {{user}}, {{char}} and the older <USER>, <BOT>."""
    names = {"{{user}}": user, "<user>": user, "{{char}}": character, "<bot>": character}
    return re.sub(r"\{\{(?:user|char)\}\}|<(?:USER|BOT)>", lambda mark: names[mark[0].lower()], text, flags=re.I)


def _context(values: Mapping[str, Any], name: str) -> str:
    persona, scenario = _text(values.get("char_persona")), _text(values.get("world_scenario"))
    parts = [
        f"{name}'s Persona: {persona}" if persona else "",
        f"Scenario: {scenario}" if scenario else "",
        _text(values.get("example_dialogue")),
    ]
    return "\n".join(part.strip() for part in parts if part.strip())


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((_text(values[key]) for key in keys if _text(values.get(key)).strip()), "")


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _read(path: Path) -> dict[str, Any]:
    """What a character's file holds. A card that was put there as it is reads like one that was brought in."""
    if path.suffix != ".json":
        return read_mapping(path)
    value = _read_json(path)
    return _values(card_of(value, path.stem), path.stem) if is_card(value) else value


def _values(card: Card, name: str) -> dict[str, Any]:
    """A card as a file here keeps it; `name` where it has none."""
    greeting = (card.greetings or [""])[0]
    own = {"name": card.text("name") or name, "greeting": greeting, "context": card.context}
    return {**own, "card": dict(card.data)}


def _own_json(data: bytes) -> dict[str, Any] | None:
    """The original's own form as JSON; None for anything else."""
    if data[:1] == b"\x89" or len(data) > LARGEST:
        return None
    try:
        value = read_json(data)
    except ValueError:
        return None
    if not isinstance(value, dict) or is_card(value):
        return None
    return value if _text(value.get("greeting")) or _text(value.get("context")) else None


def _read_json(path: Path) -> dict[str, Any]:
    """JSON by itself: tabs, which many such files have, are no YAML."""
    try:
        value = plain_json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    except OSError as error:
        raise BadFile(path, error.strerror or "the system refuses") from None
    except ValueError as error:
        raise BadFile(path, f"it is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadFile(path, "it does not hold a character")
    return value
