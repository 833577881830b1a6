"""Merges an adapter into its base model and writes a new model folder, for any loader of folders. Runs in its own
process, because it needs torch and all the weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import peft
import torch

from errors import Conflict, IncompatibleAdapter, ModelFileError, Unavailable
from loaders.huggingface import folder, native
from loaders.huggingface.options import TransformersOptions
from modules.training.lora.checkpoints import CONFIG, WEIGHTS

#: The files of a model folder besides its weights: the tokenizer, and the generation settings.
_BESIDE = ("*token*", "*.jinja", "vocab.*", "merges.txt", "generation_config.json", "special_*", "*.model", "LICENSE*")


def merge_adapter(base: Path, adapter: Path, target: Path, strength: float = 1.0) -> None:
    """Write base plus strength times the adapter to `target`, which appears when it is complete.

    Raises: ModelFileError, IncompatibleAdapter, Conflict (the target exists), Unavailable (disk full).
    """
    if target.exists():
        raise Conflict(f"{target.name} already exists in models/. Choose another name.")
    if not (adapter / CONFIG).is_file() or not (adapter / WEIGHTS).is_file():
        raise IncompatibleAdapter(adapter.name, f"it has no {CONFIG} or no {WEIGHTS}")
    read = folder.read_folder(base)
    if (room := shutil.disk_usage(target.parent).free) < read.weights * 1.05:
        raise Unavailable(
            f"The merged model needs {read.weights / 1e9:.1f} GB of disk space, but only {room / 1e9:.1f} GB is "
            "free. Free some disk space first."
        )
    plan = native.DevicePlan(cuda=False, dtype=torch.float32, more={"dtype": "auto"})
    model = native.open_for_training(read, TransformersOptions(), plan, lambda _fraction, _doing: True)
    try:
        joined = peft.PeftModel.from_pretrained(model, str(adapter))
        for module in joined.modules():
            if strength != 1 and isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
                module.set_scale("default", strength)
        whole = joined.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise IncompatibleAdapter(adapter.name, f"it was made for another model ({str(error)[:150]})") from None
    half_made = target.with_name(f".{target.name}.merging")
    shutil.rmtree(half_made, ignore_errors=True)
    try:
        whole.save_pretrained(str(half_made))
        for pattern in _BESIDE:
            for file in base.glob(pattern):
                shutil.copy2(file, half_made / file.name)
        half_made.rename(target)
    except OSError as error:
        shutil.rmtree(half_made, ignore_errors=True)
        raise ModelFileError(target.name, f"it could not be written ({error.strerror}).") from None
