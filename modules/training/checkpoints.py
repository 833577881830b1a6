"""Where a training begins: afresh, from a checkpoint that an earlier one left, or from an adapter that is there.

Folders and files are the original's: loras/NAME with the adapter, checkpoint-N below it, Backup-DATE for what was there
before. This module must not know torch.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from errors import AdapterUnfit, BadFile, Conflict, InvalidInput
from loaders import plain_json
from modules.training.lora_settings import PARAMETERS_FILE, LoraSettings

CONFIG, WEIGHTS, STATE = "adapter_config.json", "adapter_model.safetensors", "trainer_state.json"
#: As older versions of PEFT wrote it, the original's among them.
PICKLED = "adapter_model.bin"
LOG_FILE = "training_log.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
#: What may differ from the training that left a checkpoint: it changes nothing of the course up to there.
_FREE = frozenset({"always_override", "save_steps", "stop_at_loss", "higher_rank_limit", "eval_steps", "eval_dataset"})

How = Literal["fresh", "resumed", "continued"]


@dataclass(frozen=True)
class Beginning:
    """How a training begins, from which folder, after how many updates; `why` is a sentence for the user.

    `own`: the checkpoint was nobody's wish, and goes when there is a later one.
    """

    how: How
    why: str
    source: Path | None = None
    updates: int = 0
    own: bool = False


def beginning(folder: Path, settings: LoraSettings, data: str) -> Beginning:
    """What a training with these settings on this data (its fingerprint) would begin from.

    Raises: InvalidInput (another rank, alpha or other modules), AdapterUnfit, BadFile.
    """
    if not folder.is_dir() or not _holds(folder):
        return Beginning("fresh", "A new adapter.")
    if settings.always_override:
        return Beginning("fresh", f"A new adapter; the one that is there goes into {backup_of(folder).name}.")
    last = complete(folder)
    known = _known(folder)
    if last and known is not None and not _finished(folder):
        other = [name for name in _differing(folder, known, settings) if name not in _FREE]
        if known.get("data") != data:
            other.append("the data")
        if not other:
            return Beginning(
                "resumed", f"Goes on after update {_update(last):,}, from {last.name} with its optimizer.", last,
                _update(last), own=not known.get("save_steps"),
            )  # fmt: skip
    adapter = folder if (folder / WEIGHTS).is_file() or (folder / PICKLED).is_file() else None
    # without a log the last training was cut off: what its checkpoint holds is the latest
    source = last if last and not (adapter and (folder / LOG_FILE).is_file()) else adapter
    if source is None:
        return Beginning("fresh", "A new adapter: what an earlier training left holds no whole checkpoint.")
    _check(source, folder.name, settings)
    which = f"{folder.name} further" if source == folder else f"{folder.name} further from {source.name}"
    return Beginning("continued", f"Trains the adapter {which}, with a fresh optimizer.", source)


def base_of(folder: Path) -> str:
    """The model that an adapter was trained on, as its configuration names it; nothing where it does not."""
    return Path(str(_lenient(folder / CONFIG).get("base_model_name_or_path") or "")).name


def complete(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end: its trainer_state.json comes last."""
    whole = [
        each
        for each in folder.glob("checkpoint-*")
        if _update(each) >= 0
        and (each / WEIGHTS).is_file()
        and _lenient(each / STATE).get("global_step") == _update(each)
    ]
    return max(whole, key=_update, default=None)


def unfinished(folder: Path) -> bool:
    """Whether a training was stopped or cut off here that can go on from a checkpoint."""
    return _known(folder) is not None and not _finished(folder) and complete(folder) is not None


def checkpoint(folder: str | Path, update: int) -> Path:
    """Where the Trainer keeps a checkpoint."""
    return Path(folder) / f"checkpoint-{update}"


def remove_after(last: Path) -> None:
    """Remove the checkpoints beside this one that come after it: a training that goes on from it writes them anew."""
    for each in last.parent.glob("checkpoint-*"):
        if _update(each) > _update(last):
            shutil.rmtree(each, ignore_errors=True)


def backup_of(folder: Path) -> Path:
    """The folder, not there yet, into which today's backup goes."""
    first = folder / f"Backup-{date.today()}"
    number, there = 1, first
    while there.exists():
        number += 1
        there = first.with_name(f"{first.name}-{number}")
    return there


def put_away(folder: Path, *, keep: bool) -> None:
    """Move what an earlier training left into a backup; with `keep` the adapter's files are copied and stay, too.

    Checkpoints always go: they are of another course. Raises: Conflict, when a file cannot be moved.
    """
    there = backup_of(folder)
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
        raise Conflict(f"{folder} cannot be changed: {error.strerror}. Close what uses it and try again.") from None


def _update(checkpoint: Path) -> int:
    """After which update it was written; -1 for a folder of another name."""
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def _holds(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or complete(folder) is not None


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
        raise AdapterUnfit(name, "it is no LoRA of PEFT's")
    for key, label, wanted in (("r", "rank", settings.lora_rank), ("lora_alpha", "alpha", settings.lora_alpha)):
        if (value := config.get(key)) != wanted:
            raise InvalidInput(
                f"The adapter {name} has {label} {value}, and {label} {wanted} is asked for. Set the {label} to "
                f"{value} to train it further, tick Begin anew, or choose another name."
            )
    modules = config.get("target_modules")
    there = set(map(str, modules)) if isinstance(modules, list) else {str(modules)}
    if there != set(settings.targets):
        raise InvalidInput(
            f"The adapter {name} was trained on {', '.join(sorted(there))}, and {', '.join(sorted(settings.targets))} "
            "are chosen. Choose the same, tick Begin anew, or choose another name."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = plain_json.loads(file.read_text("utf-8"))
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
