"""Where a training starts: from scratch, from an earlier training's checkpoint, or from an existing adapter.

Folders and files are the original's: loras/NAME with the adapter, checkpoint-N below it, Backup-DATE for earlier
contents. This module must not know torch.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from errors import BadFile, Conflict, IncompatibleAdapter, InvalidInput
from loaders import safe_json
from modules.training.lora.settings import PARAMETERS_FILE, LoraSettings

CONFIG, WEIGHTS, STATE = "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"
#: As written by older versions of PEFT, including the original's.
PICKLED = "adapter_model.bin"
LOG_FILE = "training_log.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
#: Settings that may differ from the training that wrote a checkpoint, because they do not change its course up to
#: there.
_FREE = frozenset({"always_override", "save_steps", "stop_at_loss", "higher_rank_limit", "eval_steps", "eval_dataset"})

How = Literal["fresh", "resumed", "continued"]


@dataclass(frozen=True)
class StartPoint:
    """How a training starts, from which folder, after how many updates; `why` is a sentence for the user.

    `own`: the checkpoint was automatic, and is deleted when there is a later one.
    """

    how: How
    why: str
    source: Path | None = None
    updates: int = 0
    own: bool = False


def find_start_point(folder: Path, settings: LoraSettings, data: str) -> StartPoint:
    """The start of a training with these settings on this data (its fingerprint).

    Raises: InvalidInput (different rank, alpha or modules), IncompatibleAdapter, BadFile.
    """
    if not folder.is_dir() or not _holds(folder):
        return StartPoint("fresh", "A new adapter.")
    if settings.always_override:
        return StartPoint("fresh", f"A new adapter; the existing one is moved to {backup_folder(folder).name}.")
    last = last_checkpoint(folder)
    known = _known(folder)
    if last and known is not None and not _finished(folder):
        other = [name for name in _differing(folder, known, settings) if name not in _FREE]
        if known.get("data") != data:
            other.append("the data")
        if not other:
            return StartPoint(
                "resumed", f"Resumes after update {_update(last):,}, from {last.name} with its optimizer.", last,
                _update(last), own=not known.get("save_steps"),
            )  # fmt: skip
    adapter = folder if (folder / WEIGHTS).is_file() or (folder / PICKLED).is_file() else None
    # without a log, the last training was interrupted: its checkpoint is the latest state
    source = last if last and not (adapter and (folder / LOG_FILE).is_file()) else adapter
    if source is None:
        return StartPoint("fresh", "A new adapter: the earlier training left no complete checkpoint.")
    _check(source, folder.name, settings)
    which = f"{folder.name}" if source == folder else f"{folder.name} from {source.name}"
    return StartPoint("continued", f"Continues training the adapter {which}, with a new optimizer.", source)


def adapter_base(folder: Path) -> str:
    """The base model in an adapter's configuration; empty if there is none."""
    return Path(str(_lenient(folder / CONFIG).get("base_model_name_or_path") or "")).name


def last_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint: its trainer_state.json is written last."""
    whole = [
        each
        for each in folder.glob("checkpoint-*")
        if _update(each) >= 0
        and (each / WEIGHTS).is_file()
        and _lenient(each / STATE).get("global_step") == _update(each)
    ]
    return max(whole, key=_update, default=None)


def can_resume(folder: Path) -> bool:
    """Whether a stopped or interrupted training can be resumed from a checkpoint."""
    return _known(folder) is not None and not _finished(folder) and last_checkpoint(folder) is not None


def checkpoint_folder(folder: str | Path, update: int) -> Path:
    """The folder of a checkpoint, as the Trainer names it."""
    return Path(folder) / f"checkpoint-{update}"


def remove_later_checkpoints(last: Path) -> None:
    """Delete the checkpoints after this one: a training that resumes from it writes them again."""
    for each in last.parent.glob("checkpoint-*"):
        if _update(each) > _update(last):
            shutil.rmtree(each, ignore_errors=True)


def backup_folder(folder: Path) -> Path:
    """The folder for today's backup, which does not exist yet."""
    first = folder / f"Backup-{date.today()}"
    number, there = 1, first
    while there.exists():
        number += 1
        there = first.with_name(f"{first.name}-{number}")
    return there


def back_up(folder: Path, *, keep: bool) -> None:
    """Move what an earlier training left into a backup; with `keep`, the adapter's files are copied and stay, too.

    Checkpoints are always moved: they belong to another course. Raises: Conflict if a file cannot be moved.
    """
    there = backup_folder(folder)
    try:
        there.mkdir(parents=True)
        for file in sorted(folder.iterdir()):
            if file.name.startswith("Backup-"):
                continue
            if keep and file.is_file():
                shutil.copy2(file, there / file.name)
            else:
                file.rename(there / file.name)
    except OSError as error:
        raise Conflict(
            f"{folder} cannot be changed: {error.strerror}. Close programs that use it, then try again."
        ) from None


def _update(checkpoint: Path) -> int:
    """The update after which it was written; -1 for a folder with another name."""
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def _holds(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or last_checkpoint(folder) is not None


def _finished(folder: Path) -> bool:
    return bool(_lenient(folder / LOG_FILE).get("finished"))


def _known(folder: Path) -> dict[str, Any] | None:
    found = _lenient(folder / PARAMETERS_FILE)
    return found or None


def _differing(folder: Path, known: dict[str, Any], settings: LoraSettings) -> list[str]:
    before = LoraSettings.from_known(known, str(folder / PARAMETERS_FILE)).model_dump()
    return [name for name, value in settings.model_dump().items() if before[name] != value]


def _check(source: Path, name: str, settings: LoraSettings) -> None:
    config = _read(source / CONFIG)
    if config.get("peft_type") != "LORA":
        raise IncompatibleAdapter(name, "it is not a PEFT LoRA")
    for key, label, wanted in (("r", "rank", settings.lora_rank), ("lora_alpha", "alpha", settings.lora_alpha)):
        if (value := config.get(key)) != wanted:
            raise InvalidInput(
                f"The adapter {name} has {label} {value}, but {label} {wanted} is set. Set {label} to {value} to "
                "continue training it, start a new adapter, or choose another name."
            )
    modules = config.get("target_modules")
    there = set(map(str, modules)) if isinstance(modules, list) else {str(modules)}
    if there != set(settings.targets):
        raise InvalidInput(
            f"The adapter {name} was trained on {', '.join(sorted(there))}, but "
            f"{', '.join(sorted(settings.targets))} are selected. Select the same modules, start a new adapter, "
            "or choose another name."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = safe_json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(file, str(error)) from None
    if not isinstance(found, dict):
        raise BadFile(file, "it is not an object")
    return found


def _lenient(file: Path) -> dict[str, Any]:
    try:
        return _read(file)
    except BadFile:
        return {}
