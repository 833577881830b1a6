"""Characters: who the model plays in the chat modes. characters/NAME.yaml (.yml, .json), a picture beside it.

Files of older programs are understood: their spellings mean the same things. A file without a context gets one from
its persona, its scenario and its example dialogue. This module knows nothing of prompts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import BadFile, UnknownName
from modules.config.paths import Paths, safe_child
from modules.config.yaml_file import read_mapping

#: The character that is always there, also when its file is not.
DEFAULT = "Assistant"

_SUFFIXES = (".yaml", ".yml", ".json")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_NAME = ("name", "bot", "<|bot|>", "char_name")
_GREETING = ("greeting", "char_greeting")
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
        values = _read_json(path) if path.suffix == ".json" else read_mapping(path)
        return Character(
            file=name,
            name=_first(values, _NAME).strip() or name,
            greeting=_first(values, _GREETING),
            context=_text(values.get("context")).strip() or _context(values, _first(values, _NAME).strip() or name),
            your_name=_first(values, _YOUR_NAME).strip(),
            picture=self._picture(name),
        )

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


def _read_json(path: Path) -> dict[str, Any]:
    """JSON by itself: tabs, which many such files have, are no YAML."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise BadFile(path, "it is not UTF-8 text", "Save it as UTF-8, then try again.") from None
    except OSError as error:
        raise BadFile(path, error.strerror or "the system refuses") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"it is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise BadFile(path, "it does not hold a character")
    return value
