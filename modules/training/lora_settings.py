"""Every choice about a training of a LoRA, each declared once; the names are those of the original's saved parameters.

The Training tab, the command line, training_parameters.json and the documents are made from these fields. A step is
a micro batch, as it is in the original; an update is the change that a whole batch makes. This module must not know how
a choice acts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator
from typing_extensions import Self

from errors import BadFile, InvalidInput, utf8
from loaders import plain_json
from loaders.knobs import Knobs, knob
from loaders.params import Text

#: What is kept beside an adapter.
PARAMETERS_FILE = "training_parameters.json"

#: The groups of the Training tab: name to title.
GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "what": "What is trained",
        "data": "Data",
        "adapter": "The adapter",
        "steps": "Batches and steps",
        "learning": "Learning",
        "keeping": "Keeping and stopping",
    }
)

#: The switch of each module that may be trained, and the module's name in Llama's and most others' layers.
PROJECTIONS: Mapping[str, str] = MappingProxyType(
    {f"{name}_en": name for name in ("q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj")}
)

_NONE = ("None",)
#: Optimizers of the original that transformers has no more, or only with packages that nobody has.
_GONE = dict.fromkeys(("adamw_hf", "adamw_torch_xla", "adamw_apex_fused", "adamw_anyprecision"), "adamw_torch")


def _named(value: Any) -> Any:
    """The original writes None where nothing was chosen."""
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
    utf8(value)
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
        help="The adapter's name: its folder in loras/. One that exists is trained further.",
    )
    model: Words = knob(
        "", group="what", label="Base model", help="A folder of models/ with config.json and safetensors."
    )
    always_override: bool = knob(
        False, group="what", label="Begin anew",
        help="Where an adapter of this name exists: put it into a Backup folder and train a fresh one. Off: go on "
        "from its last checkpoint, or train it further.",
    )  # fmt: skip
    load_in_4bit: bool = knob(
        False, group="what", label="Base model in 4 bits",
        help="Quantize the base while loading (QLoRA): a quarter of the memory. Needs a CUDA card and bitsandbytes.",
    )  # fmt: skip

    dataset: Choice = knob(
        "", group="data", label="Data set",
        help="A JSON or JSONL file of training/datasets: rows for a format, chats (messages, ShareGPT), or text.",
    )  # fmt: skip
    format: Choice = knob(
        "", group="data", label="Format",
        help="How a row becomes text, from training/formats. Chats and rows with only a text need none.",
    )  # fmt: skip
    eval_dataset: Choice = knob(
        "", group="data", label="Evaluation data set", help="Rows that are not learned, to see how it does on them."
    )
    raw_text_file: Choice = knob(
        "", group="data", label="Text file",
        help="In place of a data set: a text file of training/datasets, or a folder of them, learned from end to end.",
    )  # fmt: skip
    cutoff_len: int = knob(
        256, ge=8, range=(32, 4096, 32), group="data", label="Cutoff length",
        help="The most tokens of one example. Memory and time grow with it; what is longer is cut.",
    )  # fmt: skip
    excess_length: Literal["cut", "drop"] = knob(
        "cut", group="data", label="Rows beyond the cutoff", help="Cut them at their end, or leave them out."
    )
    train_only_after: Words = knob(
        "", group="data", label="Train only after",
        help="Of each row, learn only what follows this text, such as ### Response: - the rest is read, not learned.",
    )  # fmt: skip
    add_eos_token: bool = knob(
        False, group="data", label="Add the end token", help="Ends each row with it, so that the model learns to stop."
    )
    leave_out_unfit: bool = knob(
        False, group="data", label="Leave out rows that do not fit",
        help="A row with nothing to learn, or of another form, is left out and counted; else it stops the training.",
    )  # fmt: skip
    overlap_len: int = knob(
        128, ge=0, range=(0, 512, 16), group="data", label="Overlap",
        help="Tokens that a block of a text file repeats of the block before. Must be less than the cutoff length.",
    )  # fmt: skip
    newline_favor_len: int = knob(
        128, ge=0, range=(0, 512, 16), group="data", label="Prefer newline cut",
        help="Characters by which a block of a text file may be shortened at each end to begin and end with a line.",
    )  # fmt: skip
    hard_cut_string: Words = knob(
        "\\n\\n\\n", group="data", label="Hard cut", help="Parts a text file into pieces that never share a block."
    )
    min_chars: int = knob(
        0, ge=0, range=(0, 4096, 32), group="data", label="Ignore small blocks",
        help="Pieces of a text file between hard cuts with fewer characters are left out.",
    )  # fmt: skip

    q_proj_en: bool = knob(True, group="adapter", label="q_proj", help="Queries of the attention.")
    v_proj_en: bool = knob(True, group="adapter", label="v_proj", help="Values of the attention.")
    k_proj_en: bool = knob(False, group="adapter", label="k_proj", help="Keys of the attention.")
    o_proj_en: bool = knob(False, group="adapter", label="o_proj", help="The attention's output.")
    gate_proj_en: bool = knob(False, group="adapter", label="gate_proj", help="The gate of the feed-forward part.")
    down_proj_en: bool = knob(False, group="adapter", label="down_proj", help="The way out of the feed-forward part.")
    up_proj_en: bool = knob(False, group="adapter", label="up_proj", help="The way into the feed-forward part.")
    target_modules: Text = knob(
        "", group="adapter", label="Other modules",
        help="Names of modules with commas between, in place of the boxes. Empty: the boxes, or where the model has "
        "none of them what peft trains in models of its type.",
    )  # fmt: skip
    lora_rank: int = knob(
        32, ge=1, range=(4, 1024, 4), group="adapter", label="LoRA rank",
        help="How much the adapter can hold: 4 to 8 for a style, 128 and more to teach facts. More takes more memory.",
    )  # fmt: skip
    lora_alpha: int = knob(
        64, ge=1, range=(4, 2048, 4), group="adapter", label="LoRA alpha",
        help="The adapter's strength is alpha / rank; twice the rank is usual.",
    )  # fmt: skip
    lora_dropout: float = knob(
        0.05, ge=0, le=0.99, range=(0, 1, 0.025), group="adapter", label="Dropout",
        help="The share of the adapter's inputs that is left out at random, against learning by heart.",
    )  # fmt: skip
    higher_rank_limit: bool = knob(
        False, group="adapter", label="Higher ranks", help="Doubles what the sliders of rank and alpha reach."
    )

    batch_size: int = knob(
        128, ge=1, range=(1, 1024, 1), group="steps", label="Batch size",
        help="Examples of one update of the adapter. Reached by adding up micro batches.",
    )  # fmt: skip
    micro_batch_size: int = knob(
        4, ge=1, range=(1, 128, 1), group="steps", label="Micro batch size",
        help="Examples that are computed at once. Fewer take less memory.",
    )  # fmt: skip
    epochs: float = knob(
        3,
        ge=0.01,
        le=1e6,
        range=(1, 100, 1),
        group="steps",
        label="Epochs",
        help="How often all of the data is gone through.",
    )
    gradient_checkpointing: bool = knob(
        False, group="steps", label="Gradient checkpointing",
        help="Compute what the way back needs a second time in place of keeping it: far less memory, a third slower.",
    )  # fmt: skip

    learning_rate: Rate = knob(
        3e-4,
        ge=0,
        le=1,
        group="learning",
        label="Learning rate",
        help="How large the steps are, such as 3e-4 or 0.0001.",
    )
    lr_scheduler_type: Literal[
        "linear", "constant", "constant_with_warmup", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"
    ] = knob("linear", group="learning", label="Schedule", help="How the learning rate goes down with the steps.")
    warmup_steps: int = knob(
        100, ge=0, range=(0, 1000, 1), group="learning", label="Warmup steps",
        help="Steps in which the learning rate rises from 0.",
    )  # fmt: skip
    optimizer: Annotated[
        Literal["adamw_torch", "adamw_torch_fused", "adafactor", "adamw_bnb_8bit", "sgd", "adagrad"],
        BeforeValidator(lambda value: _GONE.get(value, value)),
    ] = knob(
        "adamw_torch", group="learning", label="Optimizer",
        help="adafactor and adamw_bnb_8bit take less memory; the latter needs CUDA and bitsandbytes.",
    )  # fmt: skip
    seed: int = knob(
        42,
        ge=0,
        le=2**32 - 1,
        group="learning",
        label="Seed",
        help="The same seed and settings give the same course of the loss.",
    )

    save_steps: int = knob(
        0, ge=0, range=(0, 1000, 1), group="keeping", label="Checkpoint every n steps",
        help="From which a training that was cut off goes on, its optimizer as it was. 0: one every five minutes, of "
        "which the last alone is kept.",
    )  # fmt: skip
    eval_steps: int = knob(
        100, ge=1, range=(1, 1000, 1), group="keeping", label="Evaluate every n steps",
        help="With an evaluation data set.",
    )  # fmt: skip
    stop_at_loss: float = knob(
        0, ge=0, range=(0, 3, 0.1), group="keeping", label="Stop at loss",
        help="End when the loss of a step is not above this. 0: never.",
    )  # fmt: skip

    @property
    def targets(self) -> tuple[str, ...]:
        """The modules to train. Raises: InvalidInput, when none is chosen."""
        named = tuple(dict.fromkeys(name.strip() for name in self.target_modules.split(",") if name.strip()))
        if named:
            return named
        chosen = tuple(name for switch, name in PROJECTIONS.items() if getattr(self, switch))
        if not chosen:
            raise InvalidInput("No module is chosen to be trained. Switch on q_proj and v_proj at least.")
        return chosen

    @property
    def accumulation(self) -> int:
        """Micro batches of one step."""
        return max(1, self.batch_size // self.micro_batch_size)

    def updates(self, examples: int) -> int:
        """How often the adapter is changed in a training on so many examples."""
        micro = math.ceil(examples / self.micro_batch_size)
        return max(1, math.ceil(self.epochs * math.ceil(micro / self.accumulation)))

    def in_updates(self, steps: int) -> int:
        """Steps, as the knobs and the original count them (micro batches), in changes of the adapter."""
        return math.ceil(steps / self.accumulation)

    @classmethod
    def read(cls, file: Path) -> Self:
        """What is kept beside an adapter, the original's too: what is not known here is left out. Raises: BadFile."""
        try:
            return cls.from_json(file.read_text(encoding="utf-8-sig"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise BadFile(file, str(error)) from None

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """The same from a text; `source` is what it is called in an error. Raises: BadFile."""
        try:
            found = plain_json.loads(text)
        except ValueError as error:
            raise BadFile(source, str(error)) from None
        if not isinstance(found, dict):
            raise BadFile(source, "it is not a set of parameters")
        return cls.from_known(found, source)

    @classmethod
    def from_known(cls, found: Mapping[str, Any], source: str) -> Self:
        """The same from values: what is not known here is left out. Raises: BadFile."""
        spellings = cls.spellings()
        try:
            return cls.parse({key: value for key, value in found.items() if key in spellings})
        except InvalidInput as error:
            raise BadFile(source, str(error).rstrip(".")) from None
