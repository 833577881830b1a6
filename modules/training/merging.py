"""An adapter merged into its base: a model folder of its own, which every loader of folders takes. Runs in a process
of its own, for torch and the weights are in it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import peft
import torch

from errors import AdapterUnfit, Conflict, ModelFileError, Unavailable
from loaders.huggingface import folder, native
from loaders.huggingface.options import TransformersOptions
from modules.training.checkpoints import CONFIG, WEIGHTS

#: What a model folder has beside its weights: the tokenizer's files, and how to generate.
_BESIDE = ("*token*", "*.jinja", "vocab.*", "merges.txt", "generation_config.json", "special_*", "*.model", "LICENSE*")


def merge(base: Path, adapter: Path, target: Path, strength: float = 1.0) -> None:
    """Write base plus strength times the adapter to `target`, which appears when it is whole.

    Raises: ModelFileError, AdapterUnfit, Conflict (the target is there), Unavailable (no room).
    """
    if target.exists():
        raise Conflict(f"{target.name} is in models/ already. Choose another name.")
    if not (adapter / CONFIG).is_file() or not (adapter / WEIGHTS).is_file():
        raise AdapterUnfit(adapter.name, f"it has no {CONFIG} or no {WEIGHTS}")
    read = folder.read(base)
    if (room := shutil.disk_usage(target.parent).free) < read.weights * 1.05:
        raise Unavailable(
            f"The merged model takes {read.weights / 1e9:.1f} GB on the disk, and {room / 1e9:.1f} GB are free. "
            "Make room first."
        )
    plan = native.Plan(cuda=False, dtype=torch.float32, more={"dtype": "auto"})
    model = native.opened_to_train(read, TransformersOptions(), plan, lambda _fraction, _doing: True)
    try:
        joined = peft.PeftModel.from_pretrained(model, str(adapter))
        for module in joined.modules():
            if strength != 1 and isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
                module.set_scale("default", strength)
        whole = joined.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise AdapterUnfit(adapter.name, f"it was made for another model ({str(error)[:150]})") from None
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
        raise ModelFileError(target.name, f"it cannot be written ({error.strerror}).") from None
