"""Characters, which the model plays in the chat modes: characters/NAME.yaml (.yml, .json) and a picture beside it.

Files of older programs are read: their different keys mean the same. A file without a context gets one from its
persona, scenario and example dialogue. This module knows nothing of prompts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import BadFile, Conflict, InvalidInput, InvalidName, Unavailable
from loaders import safe_json
from loaders.banned.entries import write_entry
from loaders.banned.pattern import compile_banned_strings
from modules.chat.formats.character_cards import (
    LARGEST,
    CharacterCard,
    card_from_mapping,
    card_from_yaml,
    is_card,
    read_card,
    read_card_json,
    to_png,
    write_card,
)
from modules.config.atomic import write_bytes
from modules.config.named_files import NamedFiles
from modules.config.paths import Paths, safe_child
from modules.config.yaml_file import parse_mapping, read_mapping, write_mapping

#: The character that always exists, even without a file.
DEFAULT = "Assistant"

_SUFFIXES = (".yaml", ".yml", ".json")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_NAME = ("name", "bot", "<|bot|>", "char_name")
_GREETING = ("greeting", "char_greeting")
#: The fields that every version 2 card has.
_EMPTY_CARD: Mapping[str, Any] = {
    **dict.fromkeys(
        ("description", "personality", "scenario", "mes_example", "creator_notes", "system_prompt",
         "post_history_instructions", "creator", "character_version"), "",
    ),
    "alternate_greetings": [], "tags": [], "extensions": {},
}  # fmt: skip
_LONGEST_FILE = 80, 200  # characters, and bytes: leaves room for a number, the suffix, and what other files add to it
_YOUR_NAME = ("your_name", "user", "<|user|>")


@dataclass(frozen=True)
class Character:
    """`name` is its name in the dialogue; `file` its file's name."""

    file: str
    name: str
    greeting: str = ""
    context: str = ""
    your_name: str = ""  # the user's name, if the file gives one
    picture: Path | None = None
    greetings: tuple[str, ...] = ()  # alternate greetings
    after: str = ""  # text for the model after the history
    banned_strings: str = ""  # strings that its replies must not contain, as in SamplingParams


class Characters(NamedFiles):
    """The characters in one folder."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths.characters, _SUFFIXES, "character")

    def names(self) -> list[str]:
        """The names of all characters' files and the default's, sorted without regard to case."""
        return sorted({*super().names(), DEFAULT}, key=str.casefold)

    def load(self, name: str) -> Character:
        """Load a character. Raises: UnknownName, InvalidName, BadFile."""
        if name == DEFAULT and self.find(name) is None:
            return Character(DEFAULT, "AI")
        path = self.require(name)
        values = _read(path)
        card = CharacterCard(values["card"]) if isinstance(values.get("card"), dict) else None
        return Character(
            file=name,
            name=_first(values, _NAME).strip() or name,
            greeting=_first(values, _GREETING),
            context=_text(values.get("context")).strip() or _context(values, _first(values, _NAME).strip() or name),
            your_name=_first(values, _YOUR_NAME).strip(),
            picture=self._picture(name),
            greetings=tuple(card.greetings[1:]) if card else (),
            after=card.text("post_history_instructions").replace("{{original}}", "").strip() if card else "",
            banned_strings=_lines(values.get("banned_strings")),
        )

    def save(
        self, name: str, *, called: str, greeting: str, context: str, banned_strings: str = "", as_new: bool = False
    ) -> None:
        """Write a character; other keys of its file are kept.

        Raises: InvalidInput, InvalidName, Conflict, Unavailable.
        """
        path = self.new_path(name)
        known = self.find(name)
        if as_new and known is not None:
            raise Conflict(
                f"A character named {name} already exists. Choose another name, or save changes to the existing one."
            )
        if not called.strip():
            raise InvalidInput("The character has no name. Enter one, then save again.")
        compile_banned_strings(banned_strings, True)
        values = {}
        if known is not None:
            values = _read(known)
        for keys in (_NAME, _GREETING, ("context", "banned_strings")):
            for key in keys:
                values.pop(key, None)
        own = {"name": called.strip(), "greeting": greeting, "context": context}
        if banned_strings.strip():
            own["banned_strings"] = banned_strings
        self._write(path, {**own, **values})
        if known is not None and known != path:
            known.unlink(missing_ok=True)

    def import_card(self, data: bytes, file_name: str) -> str:
        """Import a character from a card or another program's file; returns its new file name.

        Raises: InvalidInput, BadFile, Unavailable.
        """
        suffix = Path(file_name).suffix.lower()
        own = _own_json(data)
        if own is not None or suffix in (".yaml", ".yml"):
            name = self._free(Path(file_name).stem)
            path = self.new_path(name)
            try:
                values = own or parse_mapping(data.decode("utf-8-sig"), Path(Path(file_name).name))
            except UnicodeDecodeError:
                raise InvalidInput("The file is not UTF-8 text. Save it as UTF-8, then try again.") from None
            if is_card(values):
                return self._import_card(card_from_yaml(values, Path(file_name).stem), file_name)
            if not any(values.get(key) for key in (*_NAME, *_GREETING, "context")):
                raise InvalidInput("The file does not contain a character: it has no name, greeting or context.")
            self._write(path, values)
            return name
        return self._import_card(read_card(data), file_name)

    def _import_card(self, card: CharacterCard, file_name: str) -> str:
        name = self._free(card.text("name") or Path(file_name).stem)
        self._write(self.new_path(name), _values(card, name))
        if card.picture:
            self._write_picture(name, card.picture)
        return name

    def export_card(self, name: str) -> bytes:
        """The character as a card. Raises: UnknownName, InvalidName, BadFile, InvalidInput."""
        who = self.load(name)
        path = self.find(name)
        values = {} if path is None else _read(path)
        kept = CharacterCard(values["card"]) if isinstance(values.get("card"), dict) else CharacterCard({})
        data = {**_EMPTY_CARD, **kept.data, "name": who.name, "first_mes": who.greeting}
        if kept.context != who.context:  # it was edited here, or is not from a card
            data |= {"description": who.context, "personality": "", "scenario": "", "mes_example": "",
                     "system_prompt": ""}  # fmt: skip
        return write_card(data, who.picture.read_bytes() if who.picture else None)

    def set_picture(self, name: str, data: bytes | None) -> None:
        """Replace or remove a character's picture. Raises: UnknownName, InvalidInput, Unavailable."""
        self.load(name)
        if data is not None:
            self._write_picture(name, to_png(data))
            return
        while (old := self._picture(name)) is not None:
            old.unlink()

    def delete(self, name: str) -> None:
        """Delete a character's files; its chats are kept. Raises: UnknownName, InvalidName, Unavailable."""
        path = self.require(name)
        try:
            path.unlink()
            while (picture := self._picture(name)) is not None:
                picture.unlink()
        except OSError as error:
            raise Unavailable(f"{path} cannot be deleted ({error.strerror}).") from None

    def _free(self, wished: str) -> str:
        """A file name that no other character has."""
        longest, bytes_ = _LONGEST_FILE
        plain = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', " ", wished).strip(" .")[:longest]
        plain = plain.encode("utf-8", "ignore")[:bytes_].decode("utf-8", "ignore").strip(" .") or "Character"
        try:
            self.new_path(plain)
        except InvalidName:  # Windows reserves it for a device
            plain = f"_{plain}"
        number = 1
        while self.find(name := plain if number == 1 else f"{plain} {number}") is not None:
            number += 1
        return name

    def _write(self, path: Path, values: Mapping[str, Any]) -> None:
        try:
            write_mapping(path, dict(values))
        except (OSError, UnicodeEncodeError, ValueError) as error:
            raise Unavailable(f"The character could not be saved to {path} ({error}).") from None

    def _write_picture(self, name: str, data: bytes) -> None:
        for suffix in _PICTURES[1:]:
            safe_child(self.folder, name, suffix).unlink(missing_ok=True)
        try:
            write_bytes(safe_child(self.folder, name, ".png"), data)
        except OSError as error:
            raise Unavailable(f"The picture could not be saved ({error.strerror}).") from None

    def _picture(self, name: str) -> Path | None:
        return next(filter(Path.is_file, (safe_child(self.folder, name, suffix) for suffix in _PICTURES)), None)


def insert_names(text: str, user: str, character: str) -> str:
    """Replace the placeholders {{user}}, {{char}} and the older <USER>, <BOT> in a character's text."""
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


def _lines(value: Any) -> str:
    """A text, or the entries of a list, one per line."""
    return "\n".join(write_entry(str(each)) for each in value) if isinstance(value, list) else _text(value)


def _read(path: Path) -> dict[str, Any]:
    """The contents of a character's file. A card that was copied there reads like an imported one."""
    from_json = path.suffix == ".json"
    value = _read_json(path) if from_json else read_mapping(path)
    if not is_card(value):
        return value
    card = card_from_mapping(value, path.stem) if from_json else card_from_yaml(value, path.stem)
    return _values(card, path.stem)


def _values(card: CharacterCard, name: str) -> dict[str, Any]:
    """A card in the form of our files; `name` if it has none."""
    greeting = (card.greetings or [""])[0]
    own = {"name": card.text("name") or name, "greeting": greeting, "context": card.context}
    return {**own, "card": dict(card.data)}


def _own_json(data: bytes) -> dict[str, Any] | None:
    """The original's own format as JSON; None for anything else."""
    if data[:1] == b"\x89" or len(data) > LARGEST:
        return None
    try:
        value = read_card_json(data)
    except ValueError:
        return None
    if not isinstance(value, dict) or is_card(value):
        return None
    return value if _text(value.get("greeting")) or _text(value.get("context")) else None


def _read_json(path: Path) -> dict[str, Any]:
    """JSON parsed as such: many files contain tabs, which YAML does not allow."""
    try:
        value = safe_json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    except OSError as error:
        raise BadFile(path, error.strerror or "access was denied") from None
    except ValueError as error:
        raise BadFile(path, f"it is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadFile(path, "it does not contain a character")
    return value
