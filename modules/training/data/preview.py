"""A preview of a training: counts, lengths, samples with their loss mask, memory and time.

A plain record that is passed between processes; it must not know how it is shown.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Self

from errors import NotWritable, Unavailable
from loaders import safe_json
from modules.config.atomic import write_json
from modules.training.data.examples import IGNORED, Example, pick_samples

if TYPE_CHECKING:  # it needs the packages of the Training tab, which the page that gets this record may lack
    from modules.training.lora.preparation import PreparedTraining

_BINS = 16
_SHOWN = 400  # tokens of a sample
_KEPT = 10  # samples in a file of the logs

#: The original's name for it.
SAMPLES_FILE = "train_dataset_sample.json"


@dataclass(frozen=True)
class PreviewToken:
    """One token of a sample."""

    id: int
    text: str
    learned: bool


@dataclass(frozen=True)
class PreviewSample:
    """One example as the model sees it. `more`: tokens that are not shown."""

    row: int
    tokens: int
    pieces: tuple[PreviewToken, ...]
    more: int


@dataclass(frozen=True)
class LengthBin:
    """How many examples have from `least` to `most` tokens."""

    least: int
    most: int
    count: int


@dataclass(frozen=True)
class DatasetPreview:
    """The whole preview. Tokens are those of one epoch; sizes in bytes; seconds None if the speed is unknown."""

    kind: str
    rows: int
    examples: int
    evaluation: int
    tokens: int
    learned: int
    updates: int
    steps: int  # micro batches, as the knobs count
    longest_row: int
    longest_tokens: int
    bins: tuple[LengthBin, ...]
    samples: tuple[PreviewSample, ...]
    weights: int
    adapter: int
    activations: int
    program: int
    free: int
    where: str
    seconds: float | None
    notes: tuple[str, ...]

    @property
    def needed(self) -> int:
        """Total memory."""
        return self.weights + self.adapter + self.activations + self.program

    def line(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parse(cls, line: str) -> Self:
        """From JSON. Raises: Unavailable, for anything else."""
        try:
            found = safe_json.loads(line)
            bins = tuple(LengthBin(**each) for each in found.pop("bins"))
            shown = tuple(
                PreviewSample(
                    each["row"], each["tokens"], tuple(PreviewToken(**piece) for piece in each["pieces"]), each["more"]
                )
                for each in found.pop("samples")
            )
            return cls(**{**found, "notes": tuple(found["notes"])}, bins=bins, samples=shown)
        except (ValueError, TypeError, KeyError):
            raise Unavailable("The data preview ended without a result. See the log for details.") from None


def preview_dataset(prepared: PreparedTraining) -> DatasetPreview:
    """The preview of a prepared training."""
    found, need = prepared.examples, prepared.need
    lengths = [len(each.ids) for each in found.examples]
    counts, edges = np.histogram(lengths, bins=min(_BINS, max(lengths) - min(lengths) + 1))
    bins = tuple(
        LengthBin(int(np.ceil(low)), int(high), int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    longest = found.longest
    assert longest is not None  # there is at least one example
    return DatasetPreview(
        kind=found.kind,
        rows=found.rows,
        examples=len(found.examples),
        evaluation=len(prepared.evaluation.examples) if prepared.evaluation else 0,
        tokens=found.tokens,
        learned=found.learned,
        updates=(updates := prepared.settings.updates(len(found.examples))),
        steps=updates * prepared.settings.accumulation,
        longest_row=longest.row,
        longest_tokens=longest.whole,
        bins=bins,
        samples=tuple(_sample(each, prepared) for each in pick_samples(found)),
        weights=need.weights,
        adapter=need.adapter,
        activations=need.activations,
        program=need.program,
        free=need.free,
        where=need.where,
        seconds=need.seconds,
        notes=tuple(prepared.notes),
    )


def keep_samples(prepared: PreparedTraining, logs: Path) -> None:
    """Write ten examples as training text to the original's file. Raises: Unavailable."""
    tokenizer = prepared.tokenizer
    texts = (
        b"".join(tokenizer.piece(token, special=True) for token in each.ids).decode("utf-8", "replace")
        for each in pick_samples(prepared.examples, _KEPT)
    )
    file = logs / SAMPLES_FILE
    try:
        write_json(file, [{"value": text} for text in texts])
    except OSError as error:
        raise NotWritable(file, error) from None


def _sample(example: Example, prepared: PreparedTraining) -> PreviewSample:
    tokenizer = prepared.tokenizer
    shown = list(zip(example.ids, example.labels, strict=True))[:_SHOWN]
    pieces = tuple(
        PreviewToken(token, tokenizer.piece(token, special=True).decode("utf-8", "replace"), label != IGNORED)
        for token, label in shown
    )
    return PreviewSample(example.row, len(example.ids), pieces, len(example.ids) - len(shown))
