"""What a model learns from: rows and texts as token ids, with what is learned of each marked; and what to say of them.

Knows the settings, a tokenizer and a way to write chats; it must not know torch, nor where files lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from errors import InvalidInput, UserError
from modules.training import chats
from modules.training.blocks import Cut, blocks
from modules.training.chats import Marked, Write
from modules.training.formats import Format, RowUnfit
from modules.training.lora_settings import LoraSettings
from modules.training.rows import Row

#: The label of a token that is read, not learned: what torch's cross entropy leaves out.
IGNORED = -100

_CHATS = "chats, by the model's own template"
_NAMED = 5  # rows that are named when several do not fit


class Tokenizer(Protocol):
    """What is asked of a tokenizer here; `loaders.hf.tokenizer.FolderTokenizer` has it."""

    eos_token: str
    end_ids: frozenset[int]

    def encode(self, text: str, *, add_bos: bool = False, special: bool = True) -> list[int]: ...

    def encode_with_places(self, text: str) -> tuple[list[int], list[tuple[int, int]]]: ...


@dataclass(frozen=True)
class Example:
    """Token ids, and for each its label: itself where it is learned, else IGNORED. `row` counts from 1."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    row: int
    whole: int  # tokens before it was cut


@dataclass
class Examples:
    """All of a data set. `kind` is what its rows were taken for."""

    kind: str
    examples: list[Example] = field(default_factory=list)
    rows: int = 0
    cut: int = 0  # beyond the cutoff, and cut
    dropped: int = 0  # beyond the cutoff, and left out
    unlearned: int = 0  # left out, since nothing of them is learned
    unmarked: int = 0  # without the text of train_only_after: learned as a whole
    unfit: int = 0  # left out, since they do not fit
    why_unfit: str = ""  # the first of these, and why
    longest: Example | None = None  # by its length before it was cut

    @property
    def tokens(self) -> int:
        """Of all examples together."""
        return sum(len(each.ids) for each in self.examples)

    @property
    def learned(self) -> int:
        """Tokens that count for the loss."""
        return sum(label != IGNORED for each in self.examples for label in each.labels[1:])

    def fingerprint(self) -> str:
        """Of all that is learned, to the token: what the template, a format or a tokenizer changes shows in it."""
        found = hashlib.sha256()
        for each in self.examples:
            found.update(np.array([len(each.ids), *each.ids, *each.labels], np.int64).tobytes())
        return found.hexdigest()

    def notes(self, settings: LoraSettings) -> list[str]:
        """What should be known before the first step, as sentences."""
        told = []
        if self.cut:
            told.append(f"{_of(self.cut, self.rows)} longer than {settings.cutoff_len} tokens, and cut at their end.")
        if self.dropped:
            told.append(f"{_of(self.dropped, self.rows)} longer than {settings.cutoff_len} tokens, and left out.")
        if self.unlearned:
            told.append(
                f"{_of(self.unlearned, self.rows)} left out: nothing that is learned lies within "
                f"{settings.cutoff_len} tokens."
            )
        if self.unfit:
            told.append(f"{_of(self.unfit, self.rows)} left out: {self.why_unfit}.")
        if self.unmarked:
            told.append(f"{_of(self.unmarked, self.rows)} without {settings.train_only_after!r}, and learned whole.")
        if settings.train_only_after and self.kind == _CHATS:
            told.append("Train only after has no effect on chats: what the assistant says is learned.")
        if (batch := settings.accumulation * settings.micro_batch_size) != settings.batch_size:
            told.append(f"A batch has {batch} examples: it is made of whole micro batches.")
        if self.examples and len(self.examples) < settings.batch_size:
            told.append(f"A batch of {settings.batch_size} is more than the {len(self.examples)} examples of an epoch.")
        updates = settings.updates(len(self.examples))
        warmup = 0 if settings.lr_scheduler_type == "constant" else settings.in_updates(settings.warmup_steps)
        if warmup >= updates:
            told.append(
                f"The warmup takes {warmup:,} of the {updates:,} updates: the learning rate never reaches "
                f"{settings.learning_rate:g}. Lower the warmup steps."
            )
        return told


def from_rows(
    rows: Sequence[Row],
    name: str,
    form: Format | None,
    settings: LoraSettings,
    tokenizer: Tokenizer,
    write: Write,
) -> Examples:
    """The examples of a data set. `write` is the model's own template, for chats.

    Raises: InvalidInput (rows that do not fit, which ones; nothing left to learn).
    """
    found = Examples(_kind(rows[0], form))
    wrong: list[tuple[int, str]] = []
    for number, row in enumerate(rows, start=1):
        try:
            for text in _texts(row, form, settings, write, found):
                _add(found, encoded(text, number, settings, tokenizer), settings)
        except RowUnfit as error:
            wrong.append((number, str(error)))
        except UserError as error:  # the template refuses it, or it is no text
            wrong.append((number, f"cannot be used: {str(error).rstrip('.')}"))
    if wrong and (len(wrong) == len(rows) or not settings.leave_out_unfit):
        raise InvalidInput(_unfit(wrong, len(rows), name, form))
    found.unfit = len(wrong)
    found.why_unfit = f"row {wrong[0][0]} {wrong[0][1]}" if wrong else ""
    found.rows = len(rows)
    return _checked(found, name, settings)


def from_text(texts: Iterable[str], name: str, settings: LoraSettings, tokenizer: Tokenizer) -> Examples:
    """The examples of raw texts, block by block. Raises: InvalidInput."""
    start = tokenizer.encode("", add_bos=True)
    end = tokenizer.encode(tokenizer.eos_token) if settings.add_eos_token else []
    room = settings.cutoff_len - len(start) - len(end)
    hard = settings.hard_cut_string.replace("\\n", "\n")
    cut = Cut(room, settings.overlap_len, settings.newline_favor_len, hard, settings.min_chars)
    found = Examples("blocks of a text")
    for text in texts:
        for block in blocks(text, cut, tokenizer.encode_with_places):
            found.rows += 1
            labels = [*[IGNORED] * len(start), *block, *end]
            _add(found, Example((*start, *block, *end), tuple(labels), found.rows, len(labels)), settings)
    return _checked(found, name, settings)


def encoded(text: Marked, row: int, settings: LoraSettings, tokenizer: Tokenizer) -> Example:
    """One text as token ids and labels, not cut. The start token is there once, where the model has one."""
    ids, places = tokenizer.encode_with_places(text.text)
    labels = [token if _inside(place, text.spans) else IGNORED for token, place in zip(ids, places, strict=True)]
    start = tokenizer.encode("", add_bos=True)
    if start and ids[: len(start)] != start:
        ids, labels = [*start, *ids], [*[IGNORED] * len(start), *labels]
    # what ends with words of the user is no reply that the model should learn to end
    if settings.add_eos_token and labels[-1:] != [IGNORED] and not tokenizer.end_ids.intersection(ids[-2:]):
        end = tokenizer.encode(tokenizer.eos_token)
        ids, labels = [*ids, *end], [*labels, *end]
    return Example(tuple(ids), tuple(labels), row, len(ids))


# --- inside ---


def _kind(row: Row, form: Format | None) -> str:
    if form:
        return f"rows of the format {form.name}"
    return _CHATS if chats.is_chat(row) else "rows of text"


def _texts(row: Row, form: Format | None, settings: LoraSettings, write: Write, found: Examples) -> list[Marked]:
    if form is None:
        if chats.is_chat(row):
            return chats.marked(chats.messages(row), write, chats.tools_of(row))
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise RowUnfit(f"has {', '.join(sorted(row)) or 'nothing'}: no messages, no conversations and no text")
    text = form.text(row) if form else str(row["text"])
    begin = 0
    if after := settings.train_only_after.replace("\\n", "\n"):
        place = text.find(after)
        found.unmarked += place < 0
        begin = place + len(after) if place >= 0 else 0
    return [Marked(text, ((begin, len(text)),))]


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
    """Whether a token counts to a span: by its end, for a word often brings the blank before it."""
    return any(begin < place[1] <= end for begin, end in spans)


def _checked(found: Examples, name: str, settings: LoraSettings) -> Examples:
    if not found.examples:
        why = " ".join(found.notes(settings)) or "It holds no text."
        raise InvalidInput(f"{name} leaves nothing to learn. {why}")
    return found


def _unfit(wrong: Sequence[tuple[int, str]], rows: int, name: str, form: Format | None) -> str:
    number, why = wrong[0]
    if len(wrong) == rows and form:
        return f"The format {form.name} fits no row of {name}: row {number} {why}."
    if len(wrong) == rows:
        return f"No row of {name} can be learned: row {number} {why}. Choose a format, or mend the file."
    others = [str(number) for number, _ in wrong[1:_NAMED]]
    more = f" The same holds for {_list(others, len(wrong) - 1 - len(others))}." if others else ""
    return (
        f"Row {number} of {name} {why}.{more} Mend or remove {'them' if others else 'it'}, or have such rows left out."
    )


def _list(names: Sequence[str], more: int) -> str:
    rest = f" and {more:,} more" if more > 0 else ""
    return f"row{'s' if len(names) > 1 or more > 0 else ''} {', '.join(names)}{rest}"


def _of(count: int, rows: int) -> str:
    return f"{count:,} of {rows:,} {'is' if count == 1 else 'are'}"


def samples(found: Examples, count: int = 3) -> Iterator[Example]:
    """A few examples from all over the data."""
    last = len(found.examples) - 1
    for place in sorted({round(last * part / max(count - 1, 1)) for part in range(count)}):
        yield found.examples[place]
