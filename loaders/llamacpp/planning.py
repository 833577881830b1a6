"""What a GGUF with these options will be: its context, where its parts go, and what they take.

The forecast and the load itself ask here, so what is shown is what is done. llama_cpp is not imported: what the library
would do is asked in a process of its own (dry_run.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from errors import InvalidInput, ModelFileError
from loaders.forecast import Forecast
from loaders.llamacpp import attention, dry_run, embedding_size, fit, memory, speed
from loaders.llamacpp.context_params import attention_params, context_params, key_type
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.measured import Measured
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import MEMORY, BySize, Card, Placement, titles
from loaders.llamacpp.threads import threads_and_reason

#: Without a wish of the user's, no more context than this: the model's own maximum can take all memory.
LARGEST_DEFAULT_CONTEXT = 8192
#: llama.cpp makes contexts of whole steps, and counts models up to so many layers (LLAMA_MAX_LAYERS).
_STEP, _MOST_LAYERS = 256, 512
_MEAN = 1  # llama_pooling_type


@dataclass(frozen=True)
class Plan:
    """A file and how it is to be loaded. `n_ctx`: tokens of one context; `cells`: of all that share the cache."""

    header: GGUFHeader
    options: GGUFOptions
    n_ctx: int
    cells: int
    limits: Limits
    keys: str  # the type of the cache's keys
    flash: str  # the option flash_attn, with "auto" resolved where it is known
    estimate: memory.Estimate  # by the header alone
    notes: tuple[str, ...]
    why_keys: str  # why the cache's keys are not of the type that was asked for, "" where they are

    @property
    def context(self) -> dict[str, Any]:
        """The fields of llama_context_params on which the memory depends. Raises: InvalidInput."""
        return context_params(self.options, self.limits, self.cells, self.keys, self.flash, self.header.n_heads)

    def attended(self, flash: str) -> Plan:
        """The same with another kernel of attention."""
        return replace(self, flash=flash)


@dataclass(frozen=True)
class Placed:
    """Where a plan goes, and the reason. `sizes`: None where llama.cpp was not asked, or gave no answer."""

    placement: Placement
    reason: str
    cards: tuple[Card, ...] = ()
    margins: Mapping[str, int] = field(default_factory=dict)
    sizes: BySize | None = None
    embedding: int = 0  # bytes that the shortest embeddings would take besides
    bandwidths: Mapping[str, float] = field(default_factory=dict)  # bytes a second by device, 0 where not known


def plan(header: GGUFHeader, options: GGUFOptions, limits: Limits, copies: int) -> Plan:
    """Raises: ModelFileError, InvalidInput."""
    if not 1 <= header.n_layers <= _MOST_LAYERS:  # llama.cpp ends the whole program over it
        raise ModelFileError(header.path.name, "it has a broken header: its number of layers makes no sense.")
    wish(options)  # so that what makes no sense is said first
    notes: list[str] = []
    n_ctx = _context(header, options, notes)
    cells = n_ctx * copies
    try:
        keys, why_keys = key_type(header, options, limits)
        estimate = memory.estimate(header, cells, keys, options.cache_types()[1])
    except (TypeError, ValueError, OverflowError):
        raise ModelFileError(
            header.path.name, "it has a broken header: its metadata make no sense. Download it again."
        ) from None
    flash = attention.expected(header, options, exact=not limits.shared)
    found = Plan(header, options, n_ctx, cells, limits, keys, flash, estimate, tuple(notes), why_keys)
    _ = found.context  # so that what makes no sense is said first
    return found


def _context(header: GGUFHeader, options: GGUFOptions, notes: list[str]) -> int:
    """The context that is made, in whole steps of llama.cpp's: in others its parts would not agree on the size."""
    if options.n_ctx:
        n_ctx = _whole(options.n_ctx)
        asked = "as asked" if n_ctx == options.n_ctx else f"the next step of {_STEP} above {options.n_ctx:,}"
        notes.append(f"context: {n_ctx:,} tokens, {asked}")
        if header.context_length and options.n_ctx > header.context_length * options.compress_pos_emb:
            notes.append(f"the model was trained for {header.context_length:,} tokens: expect worse text beyond them")
        return n_ctx
    own = header.context_length or 2048
    n_ctx = min(own, LARGEST_DEFAULT_CONTEXT)
    notes.append(f"context: {n_ctx:,} tokens" + (f" of the model's {own:,}" if own > n_ctx else ", the model's own"))
    return _whole(n_ctx)


def _whole(n_ctx: int) -> int:
    return -(-n_ctx // _STEP) * _STEP


def wish(options: GGUFOptions) -> fit.Wish:
    """What the options ask for. Raises: InvalidInput."""
    alone = options.split_mode == "none"
    rows = options.row_split or options.split_mode == "row"
    if alone and options.row_split:
        raise InvalidInput("split_mode none and row_split exclude each other: set one of them.")
    names = tuple(name for part in options.devices.split(",") if (name := part.strip()))
    none = options.cpu or names == ("none",)
    return fit.Wish(
        layers=0 if none else options.n_gpu_layers,
        experts=_MOST_LAYERS if options.cpu_moe else options.n_cpu_moe,
        cards=() if none else names,
        main=options.main_gpu if alone else -1,
        split=() if alone else options.split(),
        rows=rows,
        targets=options.targets(),
    )


def placed(found: Plan, cards: Sequence[Card] | None = None, *, most: int = 0) -> Placed:
    """Where it goes. `cards`: those there are now, where they are known; `most`: bytes that may go to each, 0 for all.

    Raises: InvalidInput, ModelFileError.
    """
    asked = wish(found.options)
    if cards is not None and (not cards or asked.layers == 0):
        bandwidths = {MEMORY: Measured().known_bandwidth(None)}
        return Placed(Placement(), _why_none(found, cards), tuple(cards), bandwidths=bandwidths)
    header = found.header
    answer = dry_run.asked(
        dry_run.Question(
            tuple(str(part) for part in header.parts),
            tuple(sorted(found.context.items())),
            asked,
            fit.Shape(header.n_layers, header.n_expert_blocks),
            _embedding(found),
            header.path.stat().st_mtime,
            most,
            threads=threads_and_reason(found.options.threads)[0],
        ),
        cards,
    )
    if answer is None:
        return _by_arithmetic(found, asked, cards or (), most)
    reason = (
        _in_words(found, answer.placement, answer.cards) if answer.placement.layers else _why_none(found, answer.cards)
    )
    embedding = sum((answer.embedding or {}).values())
    return Placed(answer.placement, reason, answer.cards, answer.margins, answer.sizes, embedding, answer.bandwidths)


def _embedding(found: Plan) -> tuple[tuple[str, Any], ...]:
    fields = embedding_size.fields(embedding_size.STEPS[0], found.n_ctx)
    return tuple(sorted({**fields, "pooling_type": _MEAN, **attention_params(found.options)}.items()))


def _by_arithmetic(found: Plan, asked: fit.Wish, cards: Sequence[Card], most: int) -> Placed:
    """By the header alone, where llama.cpp does not tell: the cards as if they were one."""
    used = fit.chosen(asked, cards)
    margins = fit.margins(replace(asked, kept=Measured().margins(used)), used)
    available = psutil.virtual_memory().available
    free = sum(max(fit.room(card, available) - margins[card.name], 0) for card in used)
    on_cpu = found.options.no_offload_kqv
    free = min(free, most) if most else free
    layers = asked.layers if asked.layers >= 0 else memory.layers_that_fit(found.header, found.estimate, free, on_cpu)
    experts = min(max(asked.experts, 0), found.header.n_layers)
    placement = Placement(layers, experts, tuple(card.name for card in used), asked.split, asked.rows)
    if not layers or not used:
        return Placed(Placement(), _why_none(found, used), tuple(used))
    return Placed(placement, _in_words(found, placement, used), tuple(used), margins)


def less(place: Placed) -> int:
    """Bytes that may go to each card when what went to the fullest was too much: three quarters of that."""
    sizes = place.sizes or {}
    return max((sizes[name].total for name in place.placement.cards if name in sizes), default=0) * 3 // 4


def nowhere(found: Plan, cards: Sequence[Card]) -> Placed:
    """All of it in main memory, as the cards turned out to have no room."""
    return Placed(Placement(), f"{_none_of(found)}: the cards had no room when it was loaded", tuple(cards))


def _none_of(found: Plan) -> str:
    return f"0 of {found.header.n_layers + 1} layers on the GPU"


def _why_none(found: Plan, cards: Sequence[Card]) -> str:
    """Why no layer goes to a card."""
    none = _none_of(found)
    if found.options.cpu:
        return f"{none}: the option cpu is on"
    if found.options.n_gpu_layers == 0 or wish(found.options).layers == 0:
        return f"{none}, as asked"
    if not cards:
        if found.options.n_gpu_layers > 0:
            return f"{none}: llama.cpp finds none, so n_gpu_layers has no effect"
        return "the CPU computes: llama.cpp finds no GPU"
    if found.options.devices:
        return f"{none}, as asked"
    names = " and ".join(titles(cards).values())
    return f"{none}: {names} {'has' if len(cards) == 1 else 'have'} too little memory free"


def _in_words(found: Plan, placement: Placement, cards: Sequence[Card]) -> str:
    """What goes to which card, and why not more."""
    called, options = titles(cards), found.options
    names = " and ".join(called.get(name, name) for name in placement.cards)
    layers, everything = min(placement.layers, found.header.n_layers + 1), found.header.n_layers + 1
    told = f"{layers} of {everything} layers on {names}"
    told += ", as asked" if options.n_gpu_layers >= 0 else "" if layers == everything else ", as many as fit"
    if placement.experts and found.header.n_expert_blocks:
        blocks = min(placement.experts, found.header.n_layers)
        asked = "as asked" if options.cpu_moe or options.n_cpu_moe >= 0 else "as the card has no room for them"
        told += f"; the experts of the first {blocks} layers in main memory, {asked}"
    if options.cpu_moe and not found.header.n_expert_blocks:
        told += "; cpu_moe has no effect, as the model has no experts"
    return told


def forecast(found: Plan) -> Forecast:
    """What it will take, by device. Raises: InvalidInput, ModelFileError."""
    place = placed(found)
    if place.placement.layers and found.flash != found.options.flash_attn:  # on a card llama.cpp knows best
        place = placed(found.attended(found.options.flash_attn))
    reason = f"{place.reason}; {found.notes[0]}"
    if pace := _pace(found, place):
        reason += f"; {pace}"
    if place.embedding:
        reason += f"; embeddings of short texts take {place.embedding / 1e9:.2f} GB more while they are made"
    return memory.by_device(
        found.header, found.estimate, place, reason, psutil.virtual_memory().available, found.options
    )


def used_cards(place: Placed) -> tuple[Card, ...]:
    return tuple(card for card in place.cards if card.name in place.placement.cards)


def seconds_a_token(found: Plan, place: Placed) -> float:
    """By the bandwidths alone, not corrected; 0 where they are not known."""
    return _reading(found, place).seconds(place.bandwidths)


def _reading(found: Plan, place: Placed) -> speed.Reading:
    sizes = place.sizes or {MEMORY: memory.by_header(found.header, found.estimate, place.placement)[0]}
    return speed.reading(found.header, place.placement, sizes, found.n_ctx)


def _pace(found: Plan, place: Placed) -> str:
    """The tokens a second to expect, with the reason; "" where they are not known."""
    called = {MEMORY: "the machine's memory", **titles(place.cards)}
    ratio = Measured().pace(used_cards(place), found.header.quantization)
    return speed.in_words(_reading(found, place), place.bandwidths, ratio, called)
