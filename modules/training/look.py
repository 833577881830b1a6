"""A look at a training before it begins: counts, lengths, samples with what is learned of them, memory and time.

A plain record that goes between processes; it must not know how it is shown.
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
from loaders import plain_json
from modules.config.atomic import write_json
from modules.training.examples import IGNORED, Example, samples

if TYPE_CHECKING:  # it needs the packages of the Training tab, and this record goes to a page that may lack them
    from modules.training.preparation import Prepared

_BINS = 16
_SHOWN = 400  # tokens of a sample
_KEPT = 10  # samples in a file of the logs

#: The original's name for it.
SAMPLES_FILE = "train_dataset_sample.json"


@dataclass(frozen=True)
class Piece:
    """One token of a sample."""

    id: int
    text: str
    learned: bool


@dataclass(frozen=True)
class Sample:
    """One example as the model sees it. `more`: tokens that are not shown."""

    row: int
    tokens: int
    pieces: tuple[Piece, ...]
    more: int


@dataclass(frozen=True)
class Bin:
    """How many examples have from `least` to `most` tokens."""

    least: int
    most: int
    count: int


@dataclass(frozen=True)
class Look:
    """All that is told. Tokens are those of one epoch; sizes in bytes; seconds None where the speed is not known."""

    kind: str
    rows: int
    examples: int
    evaluation: int
    tokens: int
    learned: int
    updates: int
    longest_row: int
    longest_tokens: int
    bins: tuple[Bin, ...]
    samples: tuple[Sample, ...]
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
        """All memory together."""
        return self.weights + self.adapter + self.activations + self.program

    def line(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parse(cls, line: str) -> Self:
        """From JSON. Raises: Unavailable, for anything else."""
        try:
            found = plain_json.loads(line)
            bins = tuple(Bin(**each) for each in found.pop("bins"))
            shown = tuple(
                Sample(each["row"], each["tokens"], tuple(Piece(**piece) for piece in each["pieces"]), each["more"])
                for each in found.pop("samples")
            )
            return cls(**{**found, "notes": tuple(found["notes"])}, bins=bins, samples=shown)
        except (ValueError, TypeError, KeyError):
            raise Unavailable("The look at the data ended without a result. The log has the details.") from None


def look_at(prepared: Prepared) -> Look:
    """What is to be told of a prepared training."""
    found, need = prepared.examples, prepared.need
    lengths = [len(each.ids) for each in found.examples]
    counts, edges = np.histogram(lengths, bins=min(_BINS, max(lengths) - min(lengths) + 1))
    bins = tuple(
        Bin(int(np.ceil(low)), int(high), int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
    longest = found.longest
    assert longest is not None  # there is an example, so there is a longest
    return Look(
        kind=found.kind,
        rows=found.rows,
        examples=len(found.examples),
        evaluation=len(prepared.evaluation.examples) if prepared.evaluation else 0,
        tokens=found.tokens,
        learned=found.learned,
        updates=prepared.settings.updates(len(found.examples)),
        longest_row=longest.row,
        longest_tokens=longest.whole,
        bins=bins,
        samples=tuple(_sample(each, prepared) for each in samples(found)),
        weights=need.weights,
        adapter=need.adapter,
        activations=need.activations,
        program=need.program,
        free=need.free,
        where=need.where,
        seconds=need.seconds,
        notes=tuple(prepared.notes),
    )


def keep_samples(prepared: Prepared, logs: Path) -> None:
    """Ten examples as the text that is learned from, in the original's file. Raises: Unavailable."""
    tokenizer = prepared.tokenizer
    texts = (
        b"".join(tokenizer.piece(token, special=True) for token in each.ids).decode("utf-8", "replace")
        for each in samples(prepared.examples, _KEPT)
    )
    file = logs / SAMPLES_FILE
    try:
        write_json(file, [{"value": text} for text in texts])
    except OSError as error:
        raise NotWritable(file, error) from None


def _sample(example: Example, prepared: Prepared) -> Sample:
    tokenizer = prepared.tokenizer
    shown = list(zip(example.ids, example.labels, strict=True))[:_SHOWN]
    pieces = tuple(
        Piece(token, tokenizer.piece(token, special=True).decode("utf-8", "replace"), label != IGNORED)
        for token, label in shown
    )
    return Sample(example.row, len(example.ids), pieces, len(example.ids) - len(shown))
