"""Plans the load of a GGUF with these options: its context, its placement, and the memory it takes.

Both the forecast and the load use it, so what is shown is what is done. llama_cpp is not imported: the library is
queried in a separate process (dry_run.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from errors import InvalidInput, ModelFileError
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.llamacpp import embedding_size
from loaders.llamacpp.context_params import attention_params, check_blocks, choose_key_type, context_params
from loaders.llamacpp.engine import attention
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.engine.threads import choose_threads
from loaders.llamacpp.gguf import GGUFHeader
from loaders.llamacpp.header_check import MOST_LAYERS
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import dry_run, header_sizes, memory, search, speed
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.placement import MEMORY, MemoryByDevice, Placement, gpu_titles
from loaders.shared_options import LARGEST_DEFAULT_CONTEXT

#: The step of llama.cpp's context sizes.
_STEP = 256
_MOST_CELLS = 2**31 - _STEP
_MEAN = 1  # llama_pooling_type
#: Options that only affect GPUs.
_OF_CARDS = (
    "n_cpu_moe", "cpu_moe", "tensor_split", "split_mode", "row_split", "main_gpu", "devices", "fit_target",
    "no_offload_kqv", "rpc",
)  # fmt: skip


@dataclass(frozen=True)
class LoadPlan:
    """A file and how it will be loaded. `n_ctx`: tokens of one context; `cells`: of all that share the cache."""

    header: GGUFHeader
    options: GGUFOptions
    n_ctx: int
    cells: int
    limits: EngineLimits
    keys: str  # the type of the cache's keys
    flash: str  # the option flash_attn, with "auto" resolved if known
    estimate: memory.MemoryEstimate  # from the header only
    notes: tuple[str, ...]
    why_keys: str  # why the type of the cache's keys is not the requested one, "" if it is

    @property
    def context(self) -> dict[str, Any]:
        """The fields of llama_context_params that determine the memory. Raises: InvalidInput."""
        return context_params(self.options, self.limits, self.cells, self.keys, self.flash, self.header.n_heads)

    @property
    def kind(self) -> str:
        """The kind for which speeds are recorded: models of one quantization, in one loader."""
        return f"{self.header.quantization}{self.options.speed_suffix}"

    def attended(self, flash: str) -> LoadPlan:
        """The same with another attention kernel."""
        return replace(self, flash=flash)


@dataclass(frozen=True)
class PlannedPlacement:
    """The placement of a plan, and the reason. `sizes`: None if llama.cpp was not queried, or gave no result."""

    placement: Placement
    reason: str
    cards: tuple[Gpu, ...] = ()
    margins: Mapping[str, int] = field(default_factory=dict)
    sizes: MemoryByDevice | None = None
    embedding: int = 0  # additional bytes of the shortest embeddings
    bandwidths: Mapping[str, float] = field(default_factory=dict)  # bytes per second by device, 0 if unknown


def plan_load(header: GGUFHeader, options: GGUFOptions, limits: EngineLimits, copies: int) -> LoadPlan:
    """Raises: ModelFileError, InvalidInput."""
    if not 1 <= header.n_layers <= MOST_LAYERS:  # llama.cpp would abort the whole program
        raise ModelFileError(header.path.name, "its header is damaged: the number of layers is invalid.")
    placement_request(options), options.parse_rpc()  # so that invalid options are reported first
    notes: list[str] = []
    n_ctx = _context(header, options, notes)
    if options.n_ubatch > options.n_batch and options.n_ubatch != GGUFOptions().n_ubatch:
        notes.append(f"n_ubatch is limited to n_batch ({options.n_batch})")
    cells = n_ctx * copies
    if cells > _MOST_CELLS:  # llama.cpp counts in 32 bits: a larger number would wrap
        told = f" for each of {copies} sequences" if copies > 1 else ""
        raise InvalidInput(
            f"n_ctx is {n_ctx:,} tokens{told}, but llama.cpp supports contexts of at most {_MOST_CELLS:,}."
        )
    try:
        keys, why_keys = choose_key_type(header, options, limits)
        estimate = memory.estimate_memory(header, cells, keys, options.choose_cache_types()[1])
    except (TypeError, ValueError, OverflowError):
        raise ModelFileError(
            header.path.name, "its header is damaged: the metadata is invalid. Download it again."
        ) from None
    flash = attention.predict_kernel(header, options, exact=limits.exact)
    check_blocks(header, keys, options.choose_cache_types()[1], flash)
    found = LoadPlan(header, options, n_ctx, cells, limits, keys, flash, estimate, tuple(notes), why_keys)
    _ = found.context  # so that invalid options are reported first
    return found


def _context(header: GGUFHeader, options: GGUFOptions, notes: list[str]) -> int:
    """The size of the created context, in llama.cpp's steps: otherwise its parts would disagree on the size."""
    if options.n_ctx:
        n_ctx = _whole(options.n_ctx)
        asked = (
            "as requested" if n_ctx == options.n_ctx else f"rounded up from {options.n_ctx:,} to a multiple of {_STEP}"
        )
        notes.append(f"context: {n_ctx:,} tokens, {asked}")
        if header.context_length and options.n_ctx > header.context_length * options.compress_pos_emb:
            notes.append(f"the model was trained with {header.context_length:,} tokens: quality may drop beyond that")
        return n_ctx
    own = header.context_length or 2048
    n_ctx = min(own, LARGEST_DEFAULT_CONTEXT)
    notes.append(
        f"context: {n_ctx:,} tokens" + (f" of the model's {own:,}" if own > n_ctx else ", the model's maximum")
    )
    return _whole(n_ctx)


def _whole(n_ctx: int) -> int:
    return -(-n_ctx // _STEP) * _STEP


def placement_request(options: GGUFOptions) -> search.PlacementRequest:
    """The placement that the options ask for. Raises: InvalidInput."""
    alone = options.split_mode == "none"
    rows = options.row_split or options.split_mode == "row"
    if alone and options.row_split:
        raise InvalidInput("split_mode none and row_split cannot be combined. Set only one of them.")
    names = tuple(name for part in options.devices.split(",") if (name := part.strip()))
    none = options.cpu or names == ("none",)
    return search.PlacementRequest(
        layers=0 if none else options.n_gpu_layers,
        experts=MOST_LAYERS if options.cpu_moe else options.n_cpu_moe,
        cards=() if none else names,
        main=options.main_gpu if alone else -1,
        split=() if alone else options.parse_tensor_split(),
        rows=rows,
        targets=options.parse_fit_target(),
    )


def place_model(
    found: LoadPlan, cards: Sequence[Gpu] | None = None, *, most: int = 0, pretended: Mapping[str, int] | None = None
) -> PlannedPlacement:
    """Find the placement. `cards`: the current GPUs, if known; `most`: maximum bytes per GPU, 0 for all; `pretended`:
    assumed free bytes of GPUs by name.

    Raises: InvalidInput, ModelFileError.
    """
    asked = placement_request(found.options)
    if cards is not None and (not cards or asked.layers == 0):
        bandwidths = {MEMORY: Measurements().known_bandwidth(None)}
        return PlannedPlacement(Placement(), _why_none(found, cards), tuple(cards), bandwidths=bandwidths)
    header = found.header
    answer = dry_run.run_dry(
        dry_run.DryRunRequest(
            tuple(str(part) for part in header.parts),
            tuple(sorted(found.context.items())),
            asked,
            search.ModelShape(header.n_layers, header.n_expert_blocks),
            _embedding(found),
            header.path.stat().st_mtime,
            most,
            tuple(sorted((pretended or {}).items())),
            threads=choose_threads(found.options.threads)[0],
            machines=found.options.parse_rpc(),
        ),
        cards,
    )
    if answer is None:
        return _by_arithmetic(found, asked, cards or (), most)
    reason = (
        _in_words(found, answer.placement, answer.cards) if answer.placement.layers else _why_none(found, answer.cards)
    )
    embedding = sum((answer.embedding or {}).values())
    return PlannedPlacement(
        answer.placement, reason, answer.cards, answer.margins, answer.sizes, embedding, answer.bandwidths
    )


def _embedding(found: LoadPlan) -> tuple[tuple[str, Any], ...]:
    fields = embedding_size.embedding_context_params(embedding_size.STEPS[0], found.n_ctx)
    return tuple(sorted({**fields, "pooling_type": _MEAN, **attention_params(found.options)}.items()))


def _by_arithmetic(
    found: LoadPlan, asked: search.PlacementRequest, cards: Sequence[Gpu], most: int
) -> PlannedPlacement:
    """By the header only, if llama.cpp gives no result or would take too long."""
    used = search.select_gpus(asked, cards)
    asked = replace(asked, kept=Measurements().margins(used))
    header, estimate = found.header, found.estimate
    measure = header_sizes.measure_by_header(
        header, estimate.weights, estimate.cache, used, cache_on_cpu=found.options.no_offload_kqv
    )
    shape = search.ModelShape(header.n_layers, header.n_expert_blocks)
    placement, sizes = search.find_best_placement(asked, shape, cards, free_memory_left(), measure, most)
    reason = _in_words(found, placement, used) if placement.layers else _why_none(found, used)
    margins = search.safety_margins(asked, used)
    return PlannedPlacement(placement, reason, tuple(used), margins, sizes)


def reduce_limits(place: PlannedPlacement) -> int:
    """New maximum bytes per GPU after the fullest one had too much: three quarters of that."""
    sizes = place.sizes or {}
    return max((sizes[name].total for name in place.placement.cards if name in sizes), default=0) * 3 // 4


def place_on_cpu(found: LoadPlan, cards: Sequence[Gpu]) -> PlannedPlacement:
    """Put everything in main memory, because the GPUs turned out to have no room."""
    return PlannedPlacement(Placement(), f"{_none_of(found)}: the GPUs ran out of memory while loading", tuple(cards))


def _none_of(found: LoadPlan) -> str:
    return f"0 of {found.header.n_layers + 1} layers on the GPU"


def _why_none(found: LoadPlan, cards: Sequence[Gpu]) -> str:
    """Why no layer goes to a GPU, and which options have no effect then."""
    usual = GGUFOptions()
    idle = [name for name in _OF_CARDS if getattr(found.options, name) != getattr(usual, name)]
    idle = [name for name in idle if name != "devices" or found.options.cpu]
    told = _reason_for_none(found, cards)
    return f"{told}, so {' and '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect" if idle else told


def _reason_for_none(found: LoadPlan, cards: Sequence[Gpu]) -> str:
    none = _none_of(found)
    if found.options.cpu:
        return f"{none}: the option cpu is on"
    if found.options.n_gpu_layers == 0 or placement_request(found.options).layers == 0:
        return f"{none}, as requested"
    if not cards:
        if found.options.n_gpu_layers > 0:
            return f"{none}: llama.cpp finds no GPU, so n_gpu_layers has no effect"
        return "running on the CPU: llama.cpp finds no GPU"
    if found.options.devices:
        return f"{none}, as requested"
    names = " and ".join(gpu_titles(cards).values())
    return f"{none}: {names} {'has' if len(cards) == 1 else 'have'} too little free memory"


def _in_words(found: LoadPlan, placement: Placement, cards: Sequence[Gpu]) -> str:
    """What goes to which GPU, and why not more."""
    called, options = gpu_titles(cards), found.options
    names = " and ".join(called.get(name, name) for name in placement.cards)
    layers, everything = min(placement.layers, found.header.n_layers + 1), found.header.n_layers + 1
    told = f"{layers} of {everything} layers on {names}"
    told += ", as requested" if options.n_gpu_layers >= 0 else "" if layers == everything else ", as many as fit"
    if placement.experts and found.header.n_expert_blocks:
        blocks = min(placement.experts, found.header.n_layers)
        asked = "as requested" if options.cpu_moe or options.n_cpu_moe >= 0 else "because they do not fit on the GPU"
        told += f"; the experts of the first {blocks} layers in main memory, {asked}"
    return "; ".join([told, *_without_effect(found, cards)])


def _without_effect(found: LoadPlan, cards: Sequence[Gpu]) -> list[str]:
    """Options without an effect here, and why; none is ignored silently."""
    options, told = found.options, []
    moved = "cpu_moe" if options.cpu_moe else "n_cpu_moe" if options.n_cpu_moe > 0 else ""
    if moved and not found.header.n_expert_blocks:
        told.append(f"{moved} has no effect because the model has no experts")
    if options.main_gpu and options.split_mode != "none":
        told.append("main_gpu has no effect without split_mode none")
    if options.tensor_split and options.split_mode == "none":
        told.append("tensor_split has no effect with split_mode none")
    if options.fit_target and options.n_gpu_layers >= 0 and (options.n_cpu_moe >= 0 or options.cpu_moe):
        told.append("fit_target has no effect because n_gpu_layers and the placement of the experts are set")
    if len(cards) == 1 and options.row_split | (options.split_mode == "row"):
        told.append("split_mode row has no effect with one GPU")
    return told


def forecast_memory(found: LoadPlan, *, after: LoadPlan | None = None) -> Forecast:
    """The memory it will take, by device; with that of a model that is loaded `after`. Raises: InvalidInput,
    ModelFileError.
    """
    made, place = _forecast(found, {})
    if after is None:
        return made
    sizes = place.sizes or {}
    left = {card.name: card.free - sizes[card.name].total for card in used_gpus(place) if card.name in sizes}
    return _forecast(after, left, beside=(found, made))[0]


def _forecast(
    found: LoadPlan, pretended: Mapping[str, int], beside: tuple[LoadPlan, Forecast] | None = None
) -> tuple[Forecast, PlannedPlacement]:
    place = place_model(found, pretended=pretended)
    if place.placement.layers and found.flash != found.options.flash_attn:  # on a GPU, llama.cpp decides
        place = place_model(found.attended(found.options.flash_attn), pretended=pretended)
    reason = f"{place.reason}; {found.notes[0]}"
    if pace := _pace(found, place):
        reason += f"; {pace}"
    if place.embedding:
        reason += f"; embeddings of short texts temporarily take {place.embedding / 1e9:.2f} GB more"
    machine = psutil.virtual_memory()
    kept = Measurements().memory_margin(machine.total)
    made = memory.forecast_devices(found.header, found.estimate, place, reason, machine.available, found.options, kept)
    return _beside(made, reason, beside), place


def _beside(made: Forecast, reason: str, beside: tuple[LoadPlan, Forecast] | None) -> Forecast:
    if beside is None:
        return made
    plan, other = beside
    told = f"{reason}; {other.total / 1e9:.2f} GB of it for the draft model {plan.header.path.stem}"
    return made.joined(other, told)


def quick_forecast_plan(found: LoadPlan, cards: Sequence[Gpu], *, after: LoadPlan | None = None) -> Forecast:
    """As `forecast_memory`, on these GPUs, by the header only: in milliseconds. Raises: InvalidInput."""
    made, place = _quick_forecast(found, cards)
    if after is None:
        return made
    sizes = place.sizes or {}
    cards = [card._replace(free=card.free - sizes[card.name].total) if card.name in sizes else card for card in cards]
    return _quick_forecast(after, cards, beside=(found, made))[0]


def _quick_forecast(
    found: LoadPlan, cards: Sequence[Gpu], beside: tuple[LoadPlan, Forecast] | None = None
) -> tuple[Forecast, PlannedPlacement]:
    place = _by_arithmetic(found, placement_request(found.options), cards, 0)
    machine = psutil.virtual_memory()
    kept = Measurements().memory_margin(machine.total)
    made = memory.forecast_devices(
        found.header, found.estimate, place, place.reason, machine.available, found.options, kept
    )
    return _beside(made, place.reason, beside), place


def free_memory_left() -> int:
    """Free bytes of main memory for what llama.cpp reports: the free bytes minus what loads take in addition."""
    found = psutil.virtual_memory()
    return max(int(found.available) - Measurements().memory_margin(int(found.total)), 0)


def used_gpus(place: PlannedPlacement) -> tuple[Gpu, ...]:
    return tuple(card for card in place.cards if card.name in place.placement.cards)


def seconds_per_token(found: LoadPlan, place: PlannedPlacement) -> float:
    """By the bandwidths only, not corrected; 0 if they are unknown."""
    return _reading(found, place).seconds(place.bandwidths)


def _reading(found: LoadPlan, place: PlannedPlacement) -> speed.BytesPerToken:
    sizes = place.sizes or {MEMORY: memory.estimate_placement(found.header, found.estimate, place.placement)[MEMORY]}
    return speed.bytes_per_token(found.header, place.placement, sizes, found.n_ctx)


def _pace(found: LoadPlan, place: PlannedPlacement) -> str:
    """The estimated tokens per second, with the reason; "" if unknown."""
    called = {MEMORY: "main memory", **gpu_titles(place.cards)}
    ratio = Measurements().pace(used_gpus(place), found.kind)
    return speed.describe_speed(_reading(found, place), place.bandwidths, ratio, called)
