"""The folder of the user's files, where --user-data-dir moves it away from server.py's.

All that a user has lies under it: models, LoRAs, chats, presets, characters, templates, extensions, settings.yaml and a
CMD_FLAGS.txt of its own. What the program ships of it is copied there once, folder by folder, where there is none yet;
so it may be the original's user_data, and the program's own folder may be one that cannot be written to.
It must not know what is in the folders.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from errors import InvalidInput
from modules.config.paths import Paths
from modules.config.server_flags import ServerFlags

#: What the program ships for the user to use and to change.
SHIPPED = (
    *("presets", "characters", "instruction-templates", "grammars", "prompts", "extensions"),
    *("training/datasets", "training/formats", "models/config.yaml"),
)


def folder_of(root: Path, user_data_dir: str) -> Path:
    """Where the user's files lie; `root` is server.py's folder, from which a relative path counts."""
    return root.absolute() / Path(user_data_dir).expanduser() if user_data_dir else root.absolute()


def paths_of(root: Path, server: ServerFlags) -> Paths:
    """The user's folders as the flags have them."""
    return Paths.under(folder_of(root, server.user_data_dir), server.model_dir, server.lora_dir)


def bring(root: Path, folder: Path) -> None:
    """Copies what is shipped into a folder of the user's that has it not. Raises: InvalidInput."""
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
                f"{target} cannot be made ({why}). Give --user-data-dir a folder that this account may write to."
            ) from None


def _copy(source: Path, target: Path) -> None:
    """All of it, or nothing. Raises: OSError."""
    with tempfile.TemporaryDirectory(prefix=".bring-", dir=target.parent) as place:
        part = Path(place) / target.name
        if source.is_dir():
            shutil.copytree(source, part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, part)
        part.rename(target)
