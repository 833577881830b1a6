"""The head lines of the steps of a training: the step's name, and while it is folded, what was chosen in it."""

from __future__ import annotations

from modules.training.lora.settings import LoraSettings
from modules.ui.parts.formatting import format_value, join_facts, short_name
from modules.ui.texts import knob_label, tr

#: The settings that are named in the head of the second step.
TOLD = ("lora_rank", "lora_alpha", "epochs", "learning_rate", "batch_size")
_KNOBS = LoraSettings.knobs()


def data_head(settings: LoraSettings) -> str:
    """The first step's head when it is folded: "1. Data: my-lora · SmolLM2 · facts · alpaca-format"."""
    texts = settings.raw_text_file or settings.dataset
    form = "" if settings.raw_text_file else settings.format
    return _head("step_data", join_facts(settings.lora_name, short_name(settings.model), texts, form))


def settings_head(settings: LoraSettings) -> str:
    """The second step's: "2. Settings: Rank 32 · Alpha 64 · Epochs 3 · ..."."""
    named = (f"{knob_label(_KNOBS[name], 'lora')} {format_value(getattr(settings, name))}" for name in TOLD)
    return _head("step_settings", join_facts(*named))


def plan_line(settings: LoraSettings) -> str:
    """What Start would begin, for the bar."""
    return join_facts(settings.lora_name, short_name(settings.model), settings.raw_text_file or settings.dataset)


def _head(step: str, chosen: str) -> str:
    return f"{tr(f'training.{step}')}: {chosen}" if chosen else tr(f"training.{step}")
