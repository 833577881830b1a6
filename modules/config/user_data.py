"""The folder of the user's files, if --user-data-dir moves it away from server.py's folder.

It contains all files of a user: models, LoRAs, chats, presets, characters, templates, extensions, settings.yaml and its
own CMD_FLAGS.txt. The files that the program ships are copied there once, folder by folder, if the folder does not
exist yet; so it may be the original's user_data, and the program's own folder may be read-only. It must not know what
is in the folders.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from errors import InvalidInput
from modules.config.paths import Paths
from modules.config.server_flags import ServerFlags

#: The folders that the program ships for the user to use and change.
SHIPPED = (
    *("presets", "characters", "instruction-templates", "grammars", "banned-strings", "prompts", "extensions"),
    *("training/datasets", "training/formats", "models/config.yaml"),
)


def user_data_folder(root: Path, user_data_dir: str) -> Path:
    """The folder of the user's files; `root` is server.py's folder, from which a relative path counts."""
    return root.absolute() / Path(user_data_dir).expanduser() if user_data_dir else root.absolute()


def user_paths(root: Path, server: ServerFlags) -> Paths:
    """The user's folders according to the flags."""
    return Paths.under(user_data_folder(root, server.user_data_dir), server.model_dir, server.lora_dir)


def copy_shipped_files(root: Path, folder: Path) -> None:
    """Copy the shipped folders that do not exist in the user's folder. Raises: InvalidInput."""
    if folder == root.absolute():
        return
    for name in SHIPPED:
        source, target = root / name, folder / name
        try:
            if target.exists() or not source.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target)
        except OSError as error:
            why = error.strerror or error
            raise InvalidInput(
                f"{target} could not be created ({why}). Set --user-data-dir to a folder that this account may "
                "write to."
            ) from None


def _copy(source: Path, target: Path) -> None:
    """Copy completely or not at all. Raises: OSError."""
    with tempfile.TemporaryDirectory(prefix=".bring-", dir=target.parent) as place:
        part = Path(place) / target.name
        if source.is_dir():
            shutil.copytree(source, part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, part)
        part.rename(target)
