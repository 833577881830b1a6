"""Training examples: rows and texts as token ids with a loss mask, and what to report about them.

Knows the settings, a tokenizer and a function that writes chats; it must not know torch or paths of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from errors import InvalidInput, UserError
from modules.training.data import chats
from modules.training.data.blocks import BlockCut, cut_blocks
from modules.training.data.chats import MarkedText, Write
from modules.training.data.datasets import Row
from modules.training.data.formats import RowFormat, RowUnfit
from modules.training.lora.settings import LoraSettings

#: The label of a token that does not count for the loss: torch's cross entropy ignores it.
IGNORED = -100

_CHATS = "chats, by the model's own template"
_NAMED = 5  # rows that are named if several are invalid


class TrainingTokenizer(Protocol):
    """The required methods of a tokenizer; `loaders.hf_common.tokenizer.FolderTokenizer` has them."""

    eos_token: str
    end_ids: frozenset[int]

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]: ...

    def encode_with_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]: ...


@dataclass(frozen=True)
class Example:
    """Token ids and their labels: the id itself if it counts for the loss, else IGNORED. `row` counts from 1."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    row: int
    whole: int  # tokens before truncation


@dataclass
class Examples:
    """All examples of a data set. `kind` is the kind of rows that was detected."""

    kind: str
    examples: list[Example] = field(default_factory=list)
    rows: int = 0
    cut: int = 0  # longer than the cutoff, and truncated
    dropped: int = 0  # longer than the cutoff, and left out
    unlearned: int = 0  # left out, because nothing in them counts for the loss
    unmarked: int = 0  # without the text of train_only_after: learned as a whole
    unfit: int = 0  # left out, because they are invalid
    why_unfit: str = ""  # the first of these, and why
    longest: Example | None = None  # by its length before truncation

    @property
    def tokens(self) -> int:
        """Of all examples together."""
        return sum(len(each.ids) for each in self.examples)

    @property
    def learned(self) -> int:
        """Tokens that count for the loss."""
        return sum(label != IGNORED for each in self.examples for label in each.labels[1:])

    def fingerprint(self) -> str:
        """A hash of everything that is learned, token by token: it shows changes of the template, a format or a
        tokenizer.
        """
        found = hashlib.sha256()
        for each in self.examples:
            found.update(np.array([len(each.ids), *each.ids, *each.labels], np.int64).tobytes())
        return found.hexdigest()

    def notes(self, settings: LoraSettings) -> list[str]:
        """What users should know before the first step, as sentences."""
        told = []
        if self.cut:
            told.append(f"{_of(self.cut, self.rows)} longer than {settings.cutoff_len} tokens and cut at the end.")
        if self.dropped:
            told.append(f"{_of(self.dropped, self.rows)} longer than {settings.cutoff_len} tokens and skipped.")
        if self.unlearned:
            told.append(
                f"{_of(self.unlearned, self.rows)} skipped: no trained token is within {settings.cutoff_len} tokens."
            )
        if self.unfit:
            told.append(f"{_of(self.unfit, self.rows)} skipped: {self.why_unfit}.")
        if self.unmarked:
            told.append(f"{_of(self.unmarked, self.rows)} without {settings.train_only_after!r} and used completely.")
        if settings.train_only_after and self.kind == _CHATS:
            told.append("Train only after has no effect on chats: only assistant messages are trained on.")
        if (batch := settings.accumulation * settings.micro_batch_size) != settings.batch_size:
            told.append(f"A batch has {batch} examples: the batch size is rounded to whole micro batches.")
        if self.examples and len(self.examples) < settings.batch_size:
            told.append(
                f"The batch size of {settings.batch_size} is larger than the {len(self.examples)} examples of an epoch."
            )
        updates = settings.updates(len(self.examples))
        warmup = 0 if settings.lr_scheduler_type == "constant" else settings.in_updates(settings.warmup_steps)
        if warmup >= updates:
            told.append(
                f"The warmup takes {warmup:,} of the {updates:,} updates: the learning rate never reaches "
                f"{settings.learning_rate:g}. Lower the warmup steps."
            )
        return told


def examples_from_rows(
    rows: Sequence[Row],
    name: str,
    form: RowFormat | None,
    settings: LoraSettings,
    tokenizer: TrainingTokenizer,
    write: Write,
) -> Examples:
    """The examples of a data set. `write` renders chats with the model's own template.

    Raises: InvalidInput (invalid rows, which ones; nothing left to learn).
    """
    found = Examples(_kind(rows[0], form))
    wrong: list[tuple[int, str]] = []
    for number, row in enumerate(rows, start=1):
        try:
            for text in _texts(row, form, settings, write, found):
                _add(found, encode_example(text, number, settings, tokenizer), settings)
        except RowUnfit as error:
            wrong.append((number, str(error)))
        except UserError as error:  # the template refuses it, or it is not text
            wrong.append((number, f"cannot be used: {str(error).rstrip('.')}"))
    if wrong and (len(wrong) == len(rows) or not settings.leave_out_unfit):
        raise InvalidInput(_unfit(wrong, len(rows), name, form))
    found.unfit = len(wrong)
    found.why_unfit = f"row {wrong[0][0]} {wrong[0][1]}" if wrong else ""
    found.rows = len(rows)
    return _checked(found, name, settings)


def examples_from_text(
    texts: Iterable[str], name: str, settings: LoraSettings, tokenizer: TrainingTokenizer
) -> Examples:
    """The examples of raw texts, block by block. Raises: InvalidInput."""
    start = tokenizer.encode("", add_bos=True)
    end = tokenizer.encode(tokenizer.eos_token) if settings.add_eos_token else []
    room = settings.cutoff_len - len(start) - len(end)
    hard = settings.hard_cut_string.replace("\\n", "\n")
    cut = BlockCut(room, settings.overlap_len, settings.newline_favor_len, hard, settings.min_chars)
    found = Examples("blocks of a text")
    for text in texts:
        for block in cut_blocks(text, cut, tokenizer.encode_with_places):
            found.rows += 1
            labels = [*[IGNORED] * len(start), *block, *end]
            _add(found, Example((*start, *block, *end), tuple(labels), found.rows, len(labels)), settings)
    return _checked(found, name, settings)


def encode_example(text: MarkedText, row: int, settings: LoraSettings, tokenizer: TrainingTokenizer) -> Example:
    """One text as token ids and labels, not truncated. The start token occurs once, if the model has one."""
    ids, places = tokenizer.encode_with_places(text.text)
    labels = [token if _inside(place, text.spans) else IGNORED for token, place in zip(ids, places, strict=True)]
    start = tokenizer.encode("", add_bos=True)
    if start and ids[: len(start)] != start:
        ids, labels = [*start, *ids], [*[IGNORED] * len(start), *labels]
    # a text that ends with the user's words is not a reply that the model should learn to end
    if settings.add_eos_token and labels[-1:] != [IGNORED] and not tokenizer.end_ids.intersection(ids[-2:]):
        end = tokenizer.encode(tokenizer.eos_token)
        ids, labels = [*ids, *end], [*labels, *end]
    return Example(tuple(ids), tuple(labels), row, len(ids))


# --- inside ---


def _kind(row: Row, form: RowFormat | None) -> str:
    if form:
        return f"rows of the format {form.name}"
    return _CHATS if chats.is_chat(row) else "rows of text"


def _texts(row: Row, form: RowFormat | None, settings: LoraSettings, write: Write, found: Examples) -> list[MarkedText]:
    if form is None:
        if chats.is_chat(row):
            return chats.mark_chat(chats.read_messages(row), write, chats.read_tools(row))
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise RowUnfit(f"has {', '.join(sorted(row)) or 'nothing'}, but neither messages, conversations nor text")
    text = form.text(row) if form else str(row["text"])
    begin = 0
    if after := settings.train_only_after.replace("\\n", "\n"):
        place = text.find(after)
        found.unmarked += place < 0
        begin = place + len(after) if place >= 0 else 0
    return [MarkedText(text, ((begin, len(text)),))]


def _add(found: Examples, one: Example, settings: LoraSettings) -> None:
    if found.longest is None or one.whole > found.longest.whole:
        found.longest = one
    if one.whole > settings.cutoff_len:
        if settings.excess_length == "drop":
            found.dropped += 1
            return
        found.cut += 1
        one = Example(one.ids[: settings.cutoff_len], one.labels[: settings.cutoff_len], one.row, one.whole)
    if all(label == IGNORED for label in one.labels[1:]):  # the first token has nothing before it
        found.unlearned += 1
        return
    found.examples.append(one)


def _inside(place: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a token belongs to a span: by its end, because tokens often include the space before a word."""
    return any(begin < place[1] <= end for begin, end in spans)


def _checked(found: Examples, name: str, settings: LoraSettings) -> Examples:
    if not found.examples:
        why = " ".join(found.notes(settings)) or "It contains no text."
        raise InvalidInput(f"{name} contains nothing to train on. {why}")
    return found


def _unfit(wrong: Sequence[tuple[int, str]], rows: int, name: str, form: RowFormat | None) -> str:
    number, why = wrong[0]
    if len(wrong) == rows and form:
        return f"No row of {name} matches the format {form.name}: row {number} {why}."
    if len(wrong) == rows:
        return f"No row of {name} can be used: row {number} {why}. Choose a format, or fix the file."
    others = [str(number) for number, _ in wrong[1:_NAMED]]
    more = f" The same applies to {_list(others, len(wrong) - 1 - len(others))}." if others else ""
    return (
        f"Row {number} of {name} {why}.{more} Fix or remove {'them' if others else 'it'}, or turn on skipping of "
        "such rows."
    )


def _list(names: Sequence[str], more: int) -> str:
    rest = f" and {more:,} more" if more > 0 else ""
    return f"row{'s' if len(names) > 1 or more > 0 else ''} {', '.join(names)}{rest}"


def _of(count: int, rows: int) -> str:
    return f"{count:,} of {rows:,} {'is' if count == 1 else 'are'}"


def pick_samples(found: Examples, count: int = 3) -> Iterator[Example]:
    """A few examples from all parts of the data."""
    last = len(found.examples) - 1
    for place in sorted({round(last * part / max(count - 1, 1)) for part in range(count)}):
        yield found.examples[place]
