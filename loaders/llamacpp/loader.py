"""Loads a GGUF file as a LlamaCppModel. llama_cpp is imported when a model is loaded, not before."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from errors import LoadCancelled, MissingPackage, ModelFileError, NotEnoughMemory
from loaders.base import Loader, Model, Progress
from loaders.forecast import Forecast
from loaders.gpus import Gpu, check_gpus_respond
from loaders.llamacpp import architecture, load_trial, spinning
from loaders.llamacpp.engine import attention
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.engine.threads import candidate_counts, choose_threads, find_fastest, physical_cores
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.options import GGUFOptions, LlamaCppOptions
from loaders.llamacpp.placement import memory, memory_use, planning
from loaders.llamacpp.placement.measurements import Measurements
from loaders.llamacpp.placement.memory_watch import MemoryWatch, process_bytes
from loaders.llamacpp.placement.placement import gpu_titles
from loaders.llamacpp.placement.planning import LoadPlan, PlannedPlacement
from loaders.params import LoadOptions

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import LlamaContext, LlamaWeights
    from loaders.llamacpp.tokenizer import LlamaTokenizer

OptionsT = TypeVar("OptionsT", bound=GGUFOptions)

_TRIES = 6  # attempts to load with less on the GPUs each time, if they have less free memory than reported


class LlamaCpp(Loader):
    """GGUF files, on the CPU, the GPU, or split between them."""

    name = "llama.cpp"
    summary = "GGUF files, on the CPU, the GPU or both."
    Options = LlamaCppOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """100 for a GGUF file, 90 for a folder that contains one; 0 for a model that generates no text, 20 if it
        creates embeddings.
        """
        file = _first_file(path)
        if file is None:
            return 0
        refused, embeds = architecture.inspect_file(file)
        return 0 if refused else 20 if embeds else 90 if path.is_dir() else 100

    @classmethod
    def refuses(cls, path: Path) -> str | None:
        file = _first_file(path)
        return architecture.inspect_file(file)[0] if file else None

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("llama_cpp") is None:
            return str(MissingPackage(cls.name, "llama-cpp-python", "pip install llama-cpp-python"))
        return None

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast | None:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, LlamaCppOptions)
        if cls.missing():
            return None
        limits = engine_limits(options)
        return forecast_gguf(path, options, limits, limits.copies)

    @classmethod
    def quick_forecast(cls, path: Path, options: LoadOptions, cards: Sequence[Gpu]) -> Forecast | None:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, LlamaCppOptions)
        limits = engine_limits(options)
        return quick_forecast_gguf(path, options, limits, limits.copies, cards)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppOptions)
        if cls.missing():
            raise MissingPackage(cls.name, "llama-cpp-python", "pip install llama-cpp-python")
        limits = engine_limits(options)
        return load_gguf(path, options, limits, limits.copies, progress, build_model)


def _first_file(path: Path) -> Path | None:
    """The GGUF file at this path or in this folder, if there is one."""
    files = sorted(path.glob("*.gguf"))[:1] if path.is_dir() else [path]
    return files[0] if files and files[0].suffix.lower() == ".gguf" else None


def gguf_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.gguf"))
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

    @property
    def name(self) -> str:
        return self.path.stem if self.path.is_file() else self.path.name


def engine_limits(options: LlamaCppOptions) -> EngineLimits:
    """How the engine may use its context. Raises: InvalidInput."""
    from loaders.llamacpp.engine.prompt_cache import parse_capacity

    return EngineLimits(
        parallel=options.parallel,
        n_batch=options.n_batch,
        shared=not options.separate_contexts,
        keep=options.keep if options.context_shift else None,
        cache_bytes=parse_capacity(options.cache_capacity),
        checkpoints=options.ctx_checkpoints,
        speculates=options.spec_type != "none",
    )


def build_model(found: LoadedGGUF, options: LlamaCppOptions, limits: EngineLimits) -> Model:
    """The native loader's model for a loaded GGUF."""
    from loaders.llamacpp.model import LlamaCppModel

    return LlamaCppModel(
        found.name,
        found.weights,
        found.context,
        found.tokenizer,
        options,
        limits,
        found.notes,
        found.memory,
        found.only_embeds,
        found.watch,
    )


def load_gguf(
    path: Path,
    options: OptionsT,
    limits: EngineLimits,
    copies: int,
    progress: Progress,
    build: Callable[[LoadedGGUF, OptionsT, EngineLimits], Model],
    *,
    tried: bool = False,
) -> Model:
    """Load a GGUF with a context of `copies` times n_ctx tokens, and build the model on it.

    `tried`: the file is known not to crash this process, and its context is not to be shifted. Raises: ModelFileError,
    NotEnoughMemory, InvalidInput, LoadCancelled, Unavailable; nothing stays in memory then.
    """
    progress(0.0, "reading the header")
    header = read_header(gguf_file(path))
    if why := architecture.explain_unsupported(header):
        raise ModelFileError(path.name, why)
    plan = planning.plan_load(header, options, limits, copies)
    wants_cards = (
        planning.placement_request(options).layers != 0
    )  # otherwise no GPU is queried, so that a defective one does not matter
    if wants_cards:
        check_gpus_respond()
    shifts = not tried and load_trial.try_model(
        header.parts,
        plan.context,
        psutil.virtual_memory().available,
        lambda: progress(0.02, "testing the file with one token"),
        shift=limits.keep is not None,
    )
    # here, not above: these import llama_cpp
    from loaders.llamacpp import native
    from loaders.llamacpp.placement import devices
    from loaders.llamacpp.tokenizer import LlamaTokenizer

    native.initialize(options.numa)
    cards = devices.list_gpus() if wants_cards else ()
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
            threads, reason = spinning.run_in_short_thread(
                lambda: _quickest(context, lambda: progress(0.97, "measuring the fastest thread count"))
            )
            context.set_threads(threads, options.threads_batch or threads)
        whys = [why_flash, plan.why_keys, _why_no_shift(context, limits)]
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


def _quickest(context: LlamaContext, go_on: Callable[[], bool]) -> tuple[int, str]:
    """The fastest number of threads for one token of this model, and why. The context is empty before and after.

    `go_on` is called by another thread meanwhile. Raises: LoadCancelled.
    """
    from loaders.llamacpp import native

    batch = native.LlamaBatch(1)

    def step(threads: int) -> None:
        context.set_threads(threads, threads)
        context.clear(data=False)
        batch.clear()
        batch.add([0], 0, 0, last=True, all_rows=False)
        if context.decode(batch) == 2:
            raise LoadCancelled

    try:
        with context.stop.unless(go_on):
            return find_fastest(step, candidate_counts(physical_cores()))
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


def forecast_gguf(path: Path, options: GGUFOptions, limits: EngineLimits, copies: int) -> Forecast:
    """The memory of a GGUF per device. Raises: ModelFileError, InvalidInput."""
    return planning.forecast_memory(planning.plan_load(read_header(gguf_file(path)), options, limits, copies))


def quick_forecast_gguf(
    path: Path, options: GGUFOptions, limits: EngineLimits, copies: int, cards: Sequence[Gpu]
) -> Forecast:
    """As `forecast`, by the header only. Raises: ModelFileError, InvalidInput."""
    return planning.quick_forecast_plan(
        planning.plan_load(read_header(gguf_file(path)), options, limits, copies), cards
    )
