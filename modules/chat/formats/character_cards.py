"""Reads and writes TavernAI character cards: a character in a PNG, JSON or YAML, of version 1, 2 or 3.

A card is JSON, base64-encoded in a text chunk of a PNG: `chara` (versions 1 and 2), `ccv3` (version 3). Data that this
program does not use is kept, so that an exported card equals the imported one. Bytes in, plain data out; it opens no
file itself.
"""

from __future__ import annotations

import base64
import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from errors import InvalidInput
from loaders import safe_json

LARGEST = 30_000_000  # bytes
_MOST_PIXELS = 50_000_000
_V2, _V3 = "chara_card_v2", "chara_card_v3"
_WHAT = "Choose a TavernAI or SillyTavern card (PNG or JSON), or a character YAML file."


@dataclass(frozen=True)
class CharacterCard:
    """A card's fields as named in versions 2 and 3, and its picture as a PNG (None: it had none)."""

    data: Mapping[str, Any]
    picture: bytes | None = None

    def text(self, name: str) -> str:
        """A text field; "" if the card lacks it."""
        value = self.data.get(name)
        return value.strip() if isinstance(value, str) else ""

    @property
    def greetings(self) -> list[str]:
        """The first message, then the alternate greetings."""
        others = self.data.get("alternate_greetings")
        found = [self.text("first_mes"), *(each for each in (others if isinstance(others, list) else ()))]
        return [each.strip() for each in found if isinstance(each, str) and each.strip()]

    @property
    def context(self) -> str:
        """The character's description for the model: system prompt, persona, scenario, example dialogue."""
        name = self.text("name")
        persona = "\n".join(filter(None, (self.text("description"), self.text("personality"))))
        parts = (
            self.text("system_prompt").replace("{{original}}", "").strip(),
            f"{name}'s Persona: {persona}" if persona else "",
            f"Scenario: {self.text('scenario')}" if self.text("scenario") else "",
            re.sub("<START>", "", self.text("mes_example"), flags=re.IGNORECASE).strip(),
        )
        return "\n\n".join(part for part in parts if part)


def read_card(data: bytes) -> CharacterCard:
    """A card from a file's bytes. Raises: InvalidInput."""
    if len(data) > LARGEST:
        raise InvalidInput(f"The card is larger than {LARGEST // 1_000_000} MB and was not imported. {_WHAT}")
    if data.startswith(b"\x89PNG"):
        return CharacterCard(_fields(_in_png(data)), data)
    try:
        value = read_card_json(data)
    except ValueError:
        raise InvalidInput(f"The file is not a character card: it is neither PNG nor JSON. {_WHAT}") from None
    return CharacterCard(_fields(value))


def read_card_json(data: bytes) -> Any:
    """Parse JSON so that its texts can be written again: lone surrogates become "?". Raises: ValueError,
    RecursionError.
    """
    value = safe_json.loads(data.decode("utf-8-sig"))
    return safe_json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def is_card(value: Mapping[str, Any]) -> bool:
    """Whether a mapping is a card of some version, as opposed to a character in the original program's format."""
    if isinstance(value.get("data"), dict):
        return True
    card = ("description", "personality", "first_mes", "mes_example")
    own = ("greeting", "context", "char_greeting", "char_persona")
    return any(isinstance(value.get(key), str) for key in card) and not any(value.get(key) for key in own)


def card_from_mapping(value: Mapping[str, Any], name: str) -> CharacterCard:
    """A card from a mapping for which `is_card` is true; `name` if it has none."""
    data = value["data"] if isinstance(value.get("data"), dict) else value
    named = any(isinstance(data.get(key), str) and data[key].strip() for key in ("name", "char_name"))
    return CharacterCard(_fields(data if named else {**data, "name": name}))


def card_from_yaml(value: Mapping[str, Any], name: str) -> CharacterCard:
    """The same for a mapping from YAML, whose dates and other values that JSON does not have become texts. Raises:
    InvalidInput.
    """
    try:
        plain = read_card_json(json.dumps(value, skipkeys=True, default=str).encode())
    except (ValueError, RecursionError):
        raise InvalidInput(f"The file contains values that a card cannot have. {_WHAT}") from None
    return card_from_mapping(plain, name)


def write_card(data: Mapping[str, Any], picture: bytes | None) -> bytes:
    """A PNG that contains the card, for programs of version 2 and version 3. Raises: InvalidInput."""
    image = _opened(picture) if picture else Image.new("RGB", (400, 600), (44, 154, 136))
    info = PngImagePlugin.PngInfo()
    for keyword, spec, version in (("chara", _V2, "2.0"), ("ccv3", _V3, "3.0")):
        text = json.dumps({"spec": spec, "spec_version": version, "data": dict(data)}, ensure_ascii=False)
        info.add_text(keyword, base64.b64encode(text.encode("utf-8", "replace")).decode())
    made = io.BytesIO()
    image.save(made, "PNG", pnginfo=info)
    return made.getvalue()


def to_png(picture: bytes) -> bytes:
    """Convert a picture of any usual format to PNG. Raises: InvalidInput."""
    made = io.BytesIO()
    _opened(picture).convert("RGBA").save(made, "PNG")
    return made.getvalue()


@lru_cache(maxsize=512)
def make_thumbnail(path: Path, changed: int) -> bytes:
    """A small JPEG of a picture; `changed` is its modification time. Raises: InvalidInput, OSError."""
    del changed  # only part of the cache key, so that a changed picture gets a new thumbnail
    image = _opened(path.read_bytes()).convert("RGB")
    image.thumbnail((160, 200))
    made = io.BytesIO()
    image.save(made, "JPEG", quality=80)
    return made.getvalue()


def _in_png(data: bytes) -> Any:
    image = _opened(data)
    texts = {str(key).casefold(): text for key, text in getattr(image, "text", {}).items()}
    for keyword in ("ccv3", "chara"):
        if keyword in texts:
            try:
                found = read_card_json(_decoded(texts[keyword]))
                _fields(found)  # a chunk without a character must not hide one that has one
            except (ValueError, RecursionError, InvalidInput):
                continue
            return found
    raise InvalidInput(f"The picture does not contain a readable character. {_WHAT}")


def _decoded(text: str) -> bytes:
    """Decode base64 as programs write it: with or without padding, also in the URL-safe alphabet. Raises:
    ValueError.
    """
    text = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _opened(data: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > _MOST_PIXELS:
                raise InvalidInput("The picture has more than 50 million pixels. Choose a smaller one.")
            image.load()
    except InvalidInput:
        raise
    except UnidentifiedImageError:
        raise InvalidInput("The file is not a readable picture. Choose a PNG, JPEG or WebP file.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidInput("The picture has more than 50 million pixels. Choose a smaller one.") from None
    except (OSError, SyntaxError, ValueError, Warning):
        raise InvalidInput("The picture is damaged. Choose an undamaged copy.") from None
    return image


def _fields(value: Any) -> dict[str, Any]:
    """The fields, whatever the version."""
    if isinstance(value, dict) and isinstance(value.get("data"), dict):
        outside = {key: value[key] for key in ("name", "char_name") if value.get(key) and not value["data"].get(key)}
        value = {**value["data"], **(outside if not value["data"].get("name") else {})}
    if not isinstance(value, dict) or not isinstance(value.get("name") or value.get("char_name"), str):
        raise InvalidInput(f"The file does not contain a character: it has no name. {_WHAT}")
    old = {  # keys of Pygmalion and older programs
        "name": "char_name", "description": "char_persona", "scenario": "world_scenario",
        "first_mes": "char_greeting", "mes_example": "example_dialogue",
    }  # fmt: skip
    return {**{new: value[was] for new, was in old.items() if was in value and new not in value}, **value}
