"""The user's folders, and which names are valid as file names there.

This module must not read or write the folders' contents; it only knows the paths.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

from typing_extensions import Self

from errors import InvalidInput, InvalidName

#: Names that Windows reserves for devices, with any suffix: a file of that name could never be moved there.
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_LONGEST_NAME = 255  # bytes: the limit of all common file systems


@dataclass(frozen=True)
class Paths:
    """The folders of one installation, all absolute."""

    root: Path
    models: Path
    loras: Path
    presets: Path
    characters: Path
    users: Path
    instruction_templates: Path
    grammars: Path
    banned_strings: Path
    prompts: Path
    logs: Path
    cache: Path
    training: Path
    extensions: Path

    @classmethod
    def under(cls, root: Path, model_dir: str | Path | None = None, lora_dir: str | Path | None = None) -> Self:
        """The folders below `root`; models and LoRAs may be elsewhere (a relative path counts from the root)."""
        root = root.absolute()
        return cls(
            root=root,
            models=root / Path(model_dir or "models").expanduser(),
            loras=root / Path(lora_dir or "loras").expanduser(),
            presets=root / "presets",
            characters=root / "characters",
            users=root / "users",
            instruction_templates=root / "instruction-templates",
            grammars=root / "grammars",
            banned_strings=root / "banned-strings",
            prompts=root / "prompts",
            logs=root / "logs",
            cache=root / "cache",
            training=root / "training",
            extensions=root / "extensions",
        )

    def ensure(self) -> None:
        """Create missing folders. Raises: InvalidInput, naming the one that cannot be created."""
        for each in fields(self):
            folder: Path = getattr(self, each.name)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidInput(
                    f"The folder {folder} could not be created ({error.strerror}). Choose a folder that this "
                    "program may write to."
                ) from None


def safe_child(folder: Path, name: str, suffix: str = "") -> Path:
    """The file `name + suffix` directly in the folder, for a name from outside.

    Raises: InvalidName, for anything that is not a plain file name.
    """
    why = _objection(name, suffix)
    if why:
        raise InvalidName(name if len(name) <= 80 else f"{name[:77]}...", why)
    return folder / (name + suffix)


def _objection(name: str, suffix: str) -> str:
    try:
        length = len((name + suffix).encode("utf-8"))
    except UnicodeEncodeError:
        return "it contains invalid characters"
    if not name.strip():
        return "it is empty"
    if length > _LONGEST_NAME:
        return "it is too long"
    if "/" in name or "\\" in name:
        return "it contains a slash or a backslash"
    if name.startswith("."):
        return "it starts with a dot"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "it contains a control character"
    if _RESERVED.match(name):
        return "Windows reserves this name for a device"
    # names that only Windows forbids stay allowed elsewhere: Linux users have such files and must reach them
    if os.name == "nt" and (re.search(r'[<>:"|?*]', name) or (name + suffix)[-1] in ". "):
        return 'Windows does not allow it (no < > : " | ? * and no dot or space at the end)'
    return ""
