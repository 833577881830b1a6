"""The folder of the user's files, if --user-data-dir moves it away from server.py's folder.

It contains all files of a user: models, LoRAs, chats, presets, characters, templates, extensions, settings.yaml and its
own CMD_FLAGS.txt. The files that the program ships are copied there, each once, unless one of that name exists; so it
may be the original's user_data, and the program's own folder may be read-only. It must not know what is in the files.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from errors import InvalidInput
from loaders import safe_json
from modules.config.atomic import write_bytes, write_json
from modules.config.paths import Paths
from modules.config.server_flags import ServerFlags

#: The record of what was copied, in the cache folder.
OFFERED = "shipped-files.json"
#: The folders that the program ships for the user to use and change.
SHIPPED = (
    *("presets", "characters", "instruction-templates", "grammars", "banned-strings", "prompts"),
    *("training/datasets", "training/formats", "models/config.yaml"),
)


def user_data_folder(root: Path, user_data_dir: str) -> Path:
    """The folder of the user's files; `root` is server.py's folder, from which a relative path counts."""
    return root.absolute() / Path(user_data_dir).expanduser() if user_data_dir else root.absolute()


def user_paths(root: Path, server: ServerFlags) -> Paths:
    """The user's folders according to the flags."""
    return Paths.under(user_data_folder(root, server.user_data_dir), server.model_dir, server.lora_dir)


def copy_shipped_files(root: Path, folder: Path) -> None:
    """Copy the shipped files that the user's folder lacks, each once: a file that the user deletes does not return, and
    one with the same name is never replaced. Raises: InvalidInput.
    """
    if folder == root.absolute():
        return
    record = folder / "cache" / OFFERED
    offered = _read(record)
    new = [name for name in _shipped(root) if name not in offered]
    if not new:
        return
    for name in new:
        target = folder / name
        try:
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(target, (root / name).read_bytes())
        except OSError as error:
            why = error.strerror or error
            raise InvalidInput(
                f"{target} could not be created ({why}). Set --user-data-dir to a folder that this account may "
                "write to."
            ) from None
    with suppress(OSError):  # then they are offered again at the next start
        record.parent.mkdir(exist_ok=True)
        write_json(record, sorted({*offered, *new}))


def unused_folder_note(root: Path, folder: Path) -> tuple[str, ...]:
    """A line if the original's folder was copied to where the original has it, and is not the one in use."""
    unused = root.absolute() / "user_data"
    if folder != root.absolute() or not unused.is_dir():
        return ()
    return (f"What is in {unused} is not used. To use it, start with --user-data-dir user_data.",)


def _shipped(root: Path) -> list[str]:
    """The shipped files, as paths from the program's folder."""
    found: list[str] = []
    for name in SHIPPED:
        place = root / name
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        found += [
            each.relative_to(root).as_posix()
            for each in files
            if each.is_file() and each.name != ".gitkeep" and "__pycache__" not in each.parts
        ]
    return found


def _read(record: Path) -> set[str]:
    try:
        value = safe_json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        return set()
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()
