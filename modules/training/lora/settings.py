"""Every setting of a LoRA training, each declared once; the names are those of the original's saved parameters.

The Training tab, the command line, training_parameters.json and the documentation are generated from these fields. A
step is a micro batch, as in the original; an update is the change made by a whole batch. This module must not know what
a setting does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator
from typing_extensions import Self

from errors import BadFile, InvalidInput, encode_utf8
from loaders import safe_json
from loaders.knobs import Knobs, knob
from loaders.params import Text

#: What is saved with an adapter.
PARAMETERS_FILE = "training_parameters.json"

#: The groups of the Training tab: name to title.
GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "what": "Model",
        "data": "Data",
        "adapter": "LoRA",
        "steps": "Batches and epochs",
        "learning": "Learning rate and optimizer",
        "keeping": "Checkpoints and stopping",
    }
)

#: The switch of each trainable module, and the module's name in the layers of Llama and most other models.
PROJECTIONS: Mapping[str, str] = MappingProxyType(
    {f"{name}_en": name for name in ("q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj")}
)

_NONE = ("None",)
#: Optimizers of the original that transformers no longer has, or only with uncommon packages.
_GONE = dict.fromkeys(("adamw_hf", "adamw_torch_xla", "adamw_apex_fused", "adamw_anyprecision"), "adamw_torch")


def _named(value: Any) -> Any:
    """The original writes None if nothing was chosen."""
    return "" if value is None or value in _NONE else value


def _rate(value: Any) -> Any:
    """A learning rate is text in the original: 3e-4."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _whole(value: str) -> str:
    encode_utf8(value)
    return value


Words = Annotated[Text, AfterValidator(_whole)]
Choice = Annotated[Words, BeforeValidator(_named)]
Rate = Annotated[float, BeforeValidator(_rate)]


class LoraSettings(Knobs):
    """What is trained on what, and how."""

    lora_name: Words = knob(
        "",
        group="what",
        label="Name",
        help="Name of the LoRA and of its folder in loras/. An existing LoRA is trained further.",
    )
    model: Words = knob(
        "", group="what", label="Base model", help="A folder in models/ with config.json and safetensors."
    )
    always_override: bool = knob(
        False, group="what", label="Start from scratch",
        help="If a LoRA with this name exists, move it to a Backup folder and train a new one. Off: resume from its "
        "last checkpoint, or train it further.",
    )  # fmt: skip
    load_in_4bit: bool = knob(
        False, group="what", label="4-bit base model",
        help="Quantize the base model while loading (QLoRA): a quarter of the memory. Needs a CUDA GPU and "
        "bitsandbytes.",
    )  # fmt: skip

    dataset: Choice = knob(
        "", group="data", label="Dataset",
        help="A JSON or JSONL file in training/datasets: rows for a format, chats (messages, ShareGPT) or text.",
    )  # fmt: skip
    format: Choice = knob(
        "", group="data", label="Format",
        help="How a row becomes text, from training/formats. Not needed for chats and rows with only a text.",
    )  # fmt: skip
    eval_dataset: Choice = knob(
        "", group="data", label="Evaluation dataset", help="Rows that are not trained on, to evaluate the LoRA."
    )
    raw_text_file: Choice = knob(
        "", group="data", label="Text file",
        help="Instead of a dataset: a text file in training/datasets, or a folder of text files, trained on "
        "completely.",
    )  # fmt: skip
    cutoff_len: int = knob(
        256, ge=8, range=(32, 4096, 32), group="data", label="Cutoff length",
        help="Maximum length of an example in tokens. Longer examples are cut. Higher values need more memory and "
        "time.",
    )  # fmt: skip
    excess_length: Literal["cut", "drop"] = knob(
        "cut", group="data", label="Rows over the cutoff length", help="Cut them at the end, or leave them out."
    )
    train_only_after: Words = knob(
        "", group="data", label="Train only after",
        help="Train only on the part of each row after this text, such as ### Response: The rest is only context.",
    )  # fmt: skip
    add_eos_token: bool = knob(
        False,
        group="data",
        label="Add end token",
        help="End each row with the end token, so that the model learns to stop.",
    )
    leave_out_unfit: bool = knob(
        False, group="data", label="Skip unusable rows",
        help="Skip and count rows with a different format or nothing to train on. Off: such a row stops the training.",
    )  # fmt: skip
    overlap_len: int = knob(
        128, ge=0, range=(0, 512, 16), group="data", label="Overlap",
        help="Tokens that each block of a text file repeats from the previous one. Must be less than the cutoff "
        "length.",
    )  # fmt: skip
    newline_favor_len: int = knob(
        128, ge=0, range=(0, 512, 16), group="data", label="Prefer newline cut",
        help="Maximum number of characters cut from each end of a block so that it starts and ends at a line break.",
    )  # fmt: skip
    hard_cut_string: Words = knob(
        "\\n\\n\\n", group="data", label="Hard cut", help="Splits a text file into parts that never share a block."
    )
    min_chars: int = knob(
        0, ge=0, range=(0, 4096, 32), group="data", label="Skip short parts",
        help="Minimum number of characters of a part between hard cuts; shorter parts are left out.",
    )  # fmt: skip

    q_proj_en: bool = knob(True, group="adapter", label="q_proj", help="Attention queries.")
    v_proj_en: bool = knob(True, group="adapter", label="v_proj", help="Attention values.")
    k_proj_en: bool = knob(False, group="adapter", label="k_proj", help="Attention keys.")
    o_proj_en: bool = knob(False, group="adapter", label="o_proj", help="Attention output.")
    gate_proj_en: bool = knob(
        False, group="adapter", label="gate_proj", help="Gate projection of the feed-forward network."
    )
    down_proj_en: bool = knob(
        False, group="adapter", label="down_proj", help="Down projection of the feed-forward network."
    )
    up_proj_en: bool = knob(False, group="adapter", label="up_proj", help="Up projection of the feed-forward network.")
    target_modules: Text = knob(
        "", group="adapter", label="Other modules",
        help="Names of modules to train instead of the selected ones, separated by commas. Empty: the selected ones, "
        "or peft's default for the model type if the model has none of them.",
    )  # fmt: skip
    lora_rank: int = knob(
        32, ge=1, range=(4, 1024, 4), group="adapter", label="LoRA rank",
        help="Capacity of the LoRA: 4 to 8 for a style, 128 and more to teach facts. Higher values need more memory.",
    )  # fmt: skip
    lora_alpha: int = knob(
        64, ge=1, range=(4, 2048, 4), group="adapter", label="LoRA alpha",
        help="The strength of the LoRA is alpha / rank. Twice the rank is common.",
    )  # fmt: skip
    lora_dropout: float = knob(
        0.05, ge=0, le=0.99, range=(0, 1, 0.025), group="adapter", label="Dropout",
        help="Share of the inputs that is randomly left out, to prevent overfitting.",
    )  # fmt: skip
    higher_rank_limit: bool = knob(
        False, group="adapter", label="Higher ranks", help="Double the range of the rank and alpha sliders."
    )

    batch_size: int = knob(
        128, ge=1, range=(1, 1024, 1), group="steps", label="Batch size",
        help="Examples per update of the LoRA, accumulated from micro batches.",
    )  # fmt: skip
    micro_batch_size: int = knob(
        4, ge=1, range=(1, 128, 1), group="steps", label="Micro batch size",
        help="Examples computed at once. Lower values need less memory.",
    )  # fmt: skip
    epochs: float = knob(
        3,
        ge=0.01,
        le=1e6,
        range=(1, 100, 1),
        group="steps",
        label="Epochs",
        help="Number of passes through the data.",
    )
    gradient_checkpointing: bool = knob(
        False, group="steps", label="Gradient checkpointing",
        help="Recompute activations in the backward pass instead of storing them: far less memory, about a third "
        "slower.",
    )  # fmt: skip

    learning_rate: Rate = knob(
        3e-4,
        ge=0,
        le=1,
        group="learning",
        label="Learning rate",
        help="Step size, such as 3e-4 or 0.0001.",
    )
    lr_scheduler_type: Literal[
        "linear", "constant", "constant_with_warmup", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"
    ] = knob(
        "linear",
        group="learning",
        label="Learning rate schedule",
        help="How the learning rate changes during training.",
    )
    warmup_steps: int = knob(
        100, ge=0, range=(0, 1000, 1), group="learning", label="Warmup steps",
        help="Steps in which the learning rate rises from 0.",
    )  # fmt: skip
    optimizer: Annotated[
        Literal["adamw_torch", "adamw_torch_fused", "adafactor", "adamw_bnb_8bit", "sgd", "adagrad"],
        BeforeValidator(lambda value: _GONE.get(value, value)),
    ] = knob(
        "adamw_torch", group="learning", label="Optimizer",
        help="adafactor and adamw_bnb_8bit need less memory; the latter needs CUDA and bitsandbytes.",
    )  # fmt: skip
    seed: int = knob(
        42,
        ge=0,
        le=2**32 - 1,
        group="learning",
        label="Seed",
        help="The same seed and settings give the same loss curve.",
    )

    save_steps: int = knob(
        0, ge=0, range=(0, 1000, 1), group="keeping", label="Checkpoint interval (steps)",
        help="Interrupted training resumes from its last checkpoint. 0: one checkpoint every five minutes, of which "
        "only the last is kept.",
    )  # fmt: skip
    eval_steps: int = knob(
        100, ge=1, range=(1, 1000, 1), group="keeping", label="Evaluation interval (steps)",
        help="Only with an evaluation dataset.",
    )  # fmt: skip
    stop_at_loss: float = knob(
        0, ge=0, range=(0, 3, 0.1), group="keeping", label="Stop at loss",
        help="End the training when the loss of a step reaches this value. 0 is never.",
    )  # fmt: skip

    @property
    def targets(self) -> tuple[str, ...]:
        """The modules to train. Raises: InvalidInput if none is chosen."""
        named = tuple(dict.fromkeys(name.strip() for name in self.target_modules.split(",") if name.strip()))
        if named:
            return named
        chosen = tuple(name for switch, name in PROJECTIONS.items() if getattr(self, switch))
        if not chosen:
            raise InvalidInput("No module is selected for training. Select at least q_proj and v_proj.")
        return chosen

    @property
    def accumulation(self) -> int:
        """Micro batches per step."""
        return max(1, self.batch_size // self.micro_batch_size)

    def updates(self, examples: int) -> int:
        """The number of updates in a training on this many examples."""
        micro = math.ceil(examples / self.micro_batch_size)
        return max(1, math.ceil(self.epochs * math.ceil(micro / self.accumulation)))

    def in_updates(self, steps: int) -> int:
        """Steps, as the knobs and the original count them (micro batches), converted to updates."""
        return math.ceil(steps / self.accumulation)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read an adapter's saved settings, also the original's; unknown ones are ignored. Raises: BadFile."""
        try:
            return cls.from_json(file.read_text(encoding="utf-8-sig"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise BadFile(file, str(error)) from None

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """The same from a text; `source` is its name in errors. Raises: BadFile."""
        try:
            found = safe_json.loads(text)
        except ValueError as error:
            raise BadFile(source, str(error)) from None
        if not isinstance(found, dict):
            raise BadFile(source, "it does not contain training parameters")
        return cls.from_known(found, source)

    @classmethod
    def from_known(cls, found: Mapping[str, Any], source: str) -> Self:
        """The same from values; unknown ones are ignored. Raises: BadFile."""
        spellings = cls.spellings()
        try:
            return cls.parse({key: value for key, value in found.items() if key in spellings})
        except InvalidInput as error:
            raise BadFile(source, str(error).rstrip(".")) from None
