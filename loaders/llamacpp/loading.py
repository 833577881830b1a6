"""Loads a GGUF file with its context: plan, trial, placement, weights.

llama_cpp is imported when a model is loaded, not before. It must not know what is built on the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from errors import LoadCancelled, ModelFileError, NotEnoughMemory
from loaders.base import Progress
from loaders.gpus import Gpu, check_gpus_respond
from loaders.llamacpp import architecture, load_trial, openmp
from loaders.llamacpp.companions import models_in
from loaders.llamacpp.engine import attention, lone_rows
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.engine.threads import (
    candidate_counts,
    choose_threads,
    find_fastest,
    format_thread_count,
    physical_cores,
)
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.options import GGUFOptions
from loaders.llamacpp.placement import memory, memory_use, planning
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.memory_watch import MemoryWatch, process_bytes
from loaders.llamacpp.placement.placement import gpu_titles
from loaders.llamacpp.placement.planning import LoadPlan, PlannedPlacement
from loaders.llamacpp.state_identity import state_identity
from loaders.llamacpp.thread_control import CoresBusy, measure_calmly

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import LlamaContext, LlamaWeights
    from loaders.llamacpp.tokenizer import LlamaTokenizer

OptionsT = TypeVar("OptionsT", bound=GGUFOptions)
BuiltT = TypeVar("BuiltT")

_TESTING = "testing the file with one token"
_TRIES = 6  # attempts to load with less on the GPUs each time, if they have less free memory than reported


def gguf_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = models_in(path)
    if not files:
        raise ModelFileError(path.name, "the folder contains no GGUF file.")
    return files[0]


@dataclass(frozen=True)
class LoadedGGUF:
    """A loaded GGUF with a context, and notes about it."""

    path: Path
    weights: LlamaWeights
    context: LlamaContext
    tokenizer: LlamaTokenizer
    notes: list[str]
    memory: int  # bytes
    only_embeds: str = ""  # why the model generates no text, "" if it does
    watch: MemoryWatch | None = None
    identity: str = ""  # what the states of its sequences depend on

    @property
    def name(self) -> str:
        return self.path.stem if self.path.is_file() else self.path.name


def check_gguf(path: Path, options: GGUFOptions, limits: EngineLimits, copies: int, progress: Progress) -> None:
    """Refuse a file or options that `load_gguf` would refuse, as far as that is known without a GPU and much memory.

    Raises: ModelFileError, InvalidInput, LoadCancelled.
    """
    plan = _planned(path, options, limits, copies)
    load_trial.refuse_model(
        plan.header.parts,
        plan.context,
        psutil.virtual_memory().available,
        lambda: progress(0.02, _TESTING),
        shift=limits.keep is not None,
    )


def load_gguf(
    path: Path,
    options: OptionsT,
    limits: EngineLimits,
    copies: int,
    progress: Progress,
    build: Callable[[LoadedGGUF, OptionsT, EngineLimits], BuiltT],
    *,
    tried: bool = False,
) -> BuiltT:
    """Load a GGUF with a context of `copies` times n_ctx tokens, and build the model on it.

    `tried`: the file is known not to crash this process, and its context is not to be shifted. Raises: ModelFileError,
    NotEnoughMemory, InvalidInput, LoadCancelled, Unavailable; nothing stays in memory then.
    """
    progress(0.0, "reading the header")
    plan = _planned(path, options, limits, copies)
    header = plan.header
    wants_cards = (
        planning.placement_request(options).layers != 0
    )  # otherwise no GPU is queried, so that a defective one does not matter
    if wants_cards:
        check_gpus_respond(options.parse_rpc())
    shifts = not tried and load_trial.try_model(
        header.parts,
        plan.context,
        psutil.virtual_memory().available,
        lambda: progress(0.02, _TESTING),
        shift=limits.keep is not None,
    )
    # here, not above: these import llama_cpp
    from loaders.llamacpp import library, native
    from loaders.llamacpp.placement import devices
    from loaders.llamacpp.tokenizer import LlamaTokenizer

    numa = native.initialize(options.numa)
    cards = devices.list_gpus(options.parse_rpc()) if wants_cards else ()
    for card in cards:
        Measurements().note_idle(card)
    on_card = bool(cards) and planning.placement_request(options).layers != 0
    flash, why_flash = attention.choose_kernel(
        header,
        options,
        card=on_card,
        exact=limits.exact,
        go_on=lambda: progress(0.04, "measuring the fastest attention kernel"),
    )
    plan = plan.attended(flash)
    weights = context = None
    held_before = process_bytes()
    try:
        with native.track_allocations():
            place, weights, context = _loaded(path, plan, cards, progress)
            context.can_shift = context.can_shift and shifts and not header.scales_keys
            tokenizer = LlamaTokenizer(weights, header.chat_template)
            sizes = native.allocated_sizes()
        threads, reason = choose_threads(options.threads)
        if not options.threads and not place.placement.layers and not architecture.explain_embedding_only(header):
            threads, reason = _quickest(context, lambda: progress(0.97, "measuring the fastest thread count"))
            context.set_threads(threads, options.threads_batch or threads)
        if not limits.shared and not place.placement.layers and not architecture.explain_embedding_only(header):
            context.paired_from = lone_rows.first_position(context, flash=flash != "off")
        why_numa = "" if numa == options.numa else f"numa stays {numa} until the program is restarted"
        whys = [why_flash, plan.why_keys, _why_no_shift(context, limits), why_numa]
        notes = [*plan.notes, place.reason, reason, *filter(None, whys)]
        held = devices.memory_breakdown(context.pointer) or {}
        account = {name: size.total for name, size in held.items()} if place.placement.layers else {}
        notes.append(memory_use.describe_memory_use(sizes, memory_use.usage_by_gpu(account, place)))
        watch = MemoryWatch(
            planning.used_gpus(place),
            account,
            devices.free_gpu_bytes,
            expected=planning.seconds_per_token(plan, place),
            kind=plan.kind,
            memory_beyond=memory_use.unaccounted_memory(held_before, held, options, place),
        )
        if why := architecture.explain_embedding_only(header):
            notes.append(f"this {why}")
        found = LoadedGGUF(
            path,
            weights,
            context,
            tokenizer,
            notes,
            sum(sizes.values()),
            f"{path.name} {why}" if why else "",
            watch,
            state_identity(header.parts, plan.context, library.COMMIT),
        )
        model = build(found, options, limits)
    except BaseException:
        if context:
            context.close()
        if weights:
            weights.close()
        raise
    progress(1.0, "ready")
    return model


def _planned(path: Path, options: GGUFOptions, limits: EngineLimits, copies: int) -> LoadPlan:
    """Raises: ModelFileError, InvalidInput."""
    header = read_header(gguf_file(path))
    if why := architecture.explain_unsupported(header):
        raise ModelFileError(path.name, why)
    return planning.plan_load(header, options, limits, copies)


def _quickest(context: LlamaContext, go_on: Callable[[], bool]) -> tuple[int, str]:
    """The fastest number of threads for one token of this model, and why: all cores if that cannot be measured. The
    context is empty before and after.

    `go_on` is called by another thread meanwhile. Raises: LoadCancelled.
    """
    from loaders.llamacpp.batch import LlamaBatch

    batch = LlamaBatch(1)

    def step(threads: int) -> None:
        context.set_threads(threads, threads)
        context.clear(data=False)
        batch.clear()
        batch.add([0], 0, 0, last=True, all_rows=False)
        if context.decode(batch) == 2:
            raise LoadCancelled

    try:
        with context.stop.unless(go_on):
            return measure_calmly(
                lambda: openmp.run_in_short_thread(lambda: find_fastest(step, candidate_counts(physical_cores())))
            )
    except CoresBusy:
        cores = physical_cores()
        return cores, f"{format_thread_count(cores)}, fewer while other programs are busy: they were during the load"
    finally:
        context.clear()


def _loaded(
    path: Path, plan: LoadPlan, cards: Sequence[Gpu], progress: Progress
) -> tuple[PlannedPlacement, LlamaWeights, LlamaContext]:
    """Weights and context. If a GPU has less free memory than it reported, less is put there, unless the user decided.

    Raises: ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled.
    """
    from loaders.llamacpp import native

    options = plan.options
    most = 0
    for attempt in range(_TRIES):
        last = attempt == _TRIES - 1 and options.n_gpu_layers < 0
        place = planning.place_on_cpu(plan, cards) if last else planning.place_model(plan, cards, most=most)
        if attempt and not place.placement.layers:
            place = planning.place_on_cpu(plan, cards)
        memory.refuse_if_too_big(
            plan.header, plan.estimate, planning.free_memory_left(), plan.n_ctx, place.sizes, place.placement
        )
        try:
            return (place, *_brought_in(path, plan, place, progress))
        except native.LlamaOutOfMemory:
            ours = options.n_gpu_layers < 0 or _moves_experts(plan)
            if not place.placement.layers or not ours or attempt == _TRIES - 1:
                raise _no_room(path, plan, place) from None
            most = planning.reduce_limits(place)
            if not most:
                raise _no_room(path, plan, place) from None
    raise AssertionError


def _moves_experts(plan: LoadPlan) -> bool:
    """Whether the number of experts in main memory is chosen automatically."""
    return plan.header.n_expert_blocks > 0 and plan.options.n_cpu_moe < 0 and not plan.options.cpu_moe


def _brought_in(
    path: Path, plan: LoadPlan, place: PlannedPlacement, progress: Progress
) -> tuple[LlamaWeights, LlamaContext]:
    """Raises: LlamaOutOfMemory, ModelFileError, InvalidInput, LoadCancelled; nothing stays in memory then."""
    from loaders.llamacpp import native

    cancelled = False
    options = plan.options

    def keep_going(fraction: float) -> bool:
        nonlocal cancelled
        cancelled = not progress(0.05 + 0.9 * fraction, "loading weights")
        return not cancelled

    weights = None
    try:
        weights = native.LlamaWeights(
            [str(part) for part in plan.header.parts],
            placement=place.placement,
            mmap=not options.no_mmap,
            mlock=options.mlock,
            progress=keep_going,
        )
        if not progress(0.95, "creating the context"):
            raise LoadCancelled
        threads, _ = choose_threads(options.threads)
        return weights, native.LlamaContext(
            weights,
            **plan.context,
            n_threads=threads,
            n_threads_batch=options.threads_batch or threads,
        )
    except BaseException as error:
        if weights:
            weights.close()
        if cancelled:
            raise LoadCancelled from None
        if isinstance(error, ModelFileError):
            raise type(error)(path.name, str(error).partition(": ")[2]) from None
        raise


def _no_room(path: Path, plan: LoadPlan, place: PlannedPlacement) -> NotEnoughMemory:
    """The error if a GPU, or the machine, was out of memory."""
    used = [card for card in place.cards if card.name in place.placement.cards]
    sizes = place.sizes or {}
    if not used:
        available = psutil.virtual_memory().available
        return NotEnoughMemory(path.name, plan.estimate.total, available, "Lower n_ctx, or use a smaller model.")
    needed = sum(sizes[card.name].total for card in used if card.name in sizes) or plan.estimate.total
    names = " and ".join(gpu_titles(place.cards)[card.name] for card in used)
    advice = (
        f"{names} ran out of memory while loading. Lower n_gpu_layers or n_ctx, set no_offload_kqv, or close "
        "other programs that use the GPU."
    )
    return NotEnoughMemory(path.name, needed, sum(card.free for card in used), advice)


def _why_no_shift(context: LlamaContext, limits: EngineLimits) -> str:
    if limits.keep is None or context.can_shift:
        return ""
    return "context_shift has no effect: this model's cache cannot be shifted, so a reply ends when the context is full"
