"""From a GGUF file to a running LlamaCppModel. llama_cpp is imported when a model is loaded, not before."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from errors import LoadCancelled, MissingPackage, ModelFileError, NotEnoughMemory
from loaders.base import Loader, Model, Progress
from loaders.cards import check_that_they_answer
from loaders.forecast import Forecast
from loaders.llamacpp import architecture, attention, memory, planning, trial
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.measured import Measured
from loaders.llamacpp.options import GGUFOptions, LlamaCppOptions
from loaders.llamacpp.placement import Card, titles
from loaders.llamacpp.planning import Placed, Plan
from loaders.llamacpp.threads import candidates, measured, physical_cores, threads_and_reason
from loaders.llamacpp.watch import Watch
from loaders.params import LoadOptions

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import Context, Weights
    from loaders.llamacpp.tokenizer import LlamaTokenizer

OptionsT = TypeVar("OptionsT", bound=GGUFOptions)

_TRIES = 6  # loads with less on the cards each time, where they are fuller than they told


class LlamaCpp(Loader):
    """GGUF files, on the CPU, the GPU, or split between them."""

    name = "llama.cpp"
    summary = "GGUF files, on the CPU, the GPU or both."
    Options = LlamaCppOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """100 for a GGUF file, 90 for a folder that holds one; 0 for what writes no text, 20 if it makes embeddings."""
        file = _first_file(path)
        if file is None:
            return 0
        refused, embeds = architecture.look(file)
        return 0 if refused else 20 if embeds else 90 if path.is_dir() else 100

    @classmethod
    def refuses(cls, path: Path) -> str | None:
        file = _first_file(path)
        return architecture.look(file)[0] if file else None

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
        limits = limits_of(options)
        return forecast(path, options, limits, limits.copies)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppOptions)
        if cls.missing():
            raise MissingPackage(cls.name, "llama-cpp-python", "pip install llama-cpp-python")
        limits = limits_of(options)
        return opened(path, options, limits, limits.copies, progress, build)


def _first_file(path: Path) -> Path | None:
    """The GGUF file that a path is or holds, if it is or holds one."""
    files = sorted(path.glob("*.gguf"))[:1] if path.is_dir() else [path]
    return files[0] if files and files[0].suffix.lower() == ".gguf" else None


def file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.gguf"))
    if not files:
        raise ModelFileError(path.name, "the folder holds no GGUF file.")
    return files[0]


@dataclass(frozen=True)
class Opened:
    """A GGUF in memory with a context, and what is to be said about it."""

    path: Path
    weights: Weights
    context: Context
    tokenizer: LlamaTokenizer
    notes: list[str]
    memory: int  # bytes
    only_embeds: str = ""  # why the model writes no text, "" where it does
    watch: Watch | None = None

    @property
    def name(self) -> str:
        return self.path.stem if self.path.is_file() else self.path.name


def limits_of(options: LlamaCppOptions) -> Limits:
    """How the engine may use its context. Raises: InvalidInput."""
    from loaders.llamacpp.states import capacity_in_bytes

    return Limits(
        parallel=options.parallel,
        n_batch=options.n_batch,
        shared=not options.separate_contexts,
        keep=options.keep if options.context_shift else None,
        cache_bytes=capacity_in_bytes(options.cache_capacity),
    )


def build(found: Opened, options: LlamaCppOptions, limits: Limits) -> Model:
    """The native loader's model of what was opened."""
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


def opened(
    path: Path,
    options: OptionsT,
    limits: Limits,
    copies: int,
    progress: Progress,
    build: Callable[[Opened, OptionsT, Limits], Model],
) -> Model:
    """Bring a GGUF into memory with a context of `copies` times n_ctx tokens, and build the model on it.

    Raises: ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled, Unavailable; nothing stays in memory then.
    """
    progress(0.0, "reading the header")
    header = read_header(file_of(path))
    if why := architecture.refusal(header):
        raise ModelFileError(path.name, why)
    plan = planning.plan(header, options, limits, copies)
    wants_cards = planning.wish(options).layers != 0  # else none is asked, so that a broken one is out of the way
    if wants_cards:
        check_that_they_answer()
    shifts = trial.check(
        header.parts,
        plan.context,
        psutil.virtual_memory().available,
        lambda: progress(0.02, "trying the file for one token"),
        shift=limits.keep is not None,
    )
    # here, not above: these import llama_cpp
    from loaders.llamacpp import devices, native
    from loaders.llamacpp.tokenizer import LlamaTokenizer

    native.start(options.numa)
    cards = devices.cards() if wants_cards else ()
    for card in cards:
        Measured().note_idle(card)
    on_card = bool(cards) and planning.wish(options).layers != 0
    flash, why_flash = attention.choose(header, options, card=on_card, exact=not limits.shared)
    plan = plan.attended(flash)
    weights = context = None
    try:
        with native.counting():
            place, weights, context = _loaded(path, plan, cards, progress)
            context.can_shift = context.can_shift and shifts and not header.scales_keys
            tokenizer = LlamaTokenizer(weights, header.chat_template)
            taken = native.sizes()
        threads, reason = threads_and_reason(options.threads)
        if not options.threads and not place.placement.layers and not architecture.only_embeds(header):
            progress(0.97, "measuring how many threads are quickest")
            threads, reason = _quickest(context)
            context.set_threads(threads, options.threads_batch or threads)
        whys = [why_flash, plan.why_keys, _why_no_shift(context, limits)]
        notes = [*plan.notes, place.reason, reason, *filter(None, whys)]
        held = (devices.account(context.pointer) or {}) if place.placement.layers else {}
        account = {name: size.total for name, size in held.items()}
        notes.append(taken_in_words(taken, _by_card(account, place)))
        watch = Watch(
            planning.used_cards(place),
            account,
            devices.free,
            expected=planning.seconds_a_token(plan, place),
            kind=header.quantization,
        )
        if why := architecture.only_embeds(header):
            notes.append(f"this {why}")
        found = Opened(
            path,
            weights,
            context,
            tokenizer,
            notes,
            sum(taken.values()),
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


def _quickest(context: Context) -> tuple[int, str]:
    """How many threads compute a token of this model in the least time, and why. The context is empty, and is again."""
    from loaders.llamacpp import native

    batch = native.Batch(1)

    def step(threads: int) -> None:
        context.set_threads(threads, threads)
        context.clear(data=False)
        batch.clear()
        batch.add([0], 0, 0, last=True, all_rows=False)
        context.decode(batch)

    try:
        return measured(step, candidates(physical_cores()))
    finally:
        context.clear()


def _loaded(path: Path, plan: Plan, cards: Sequence[Card], progress: Progress) -> tuple[Placed, Weights, Context]:
    """Weights and context. A card that turns out to be fuller than it told gets less, where that is left to us.

    Raises: ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled.
    """
    from loaders.llamacpp import native

    options = plan.options
    most = 0
    for attempt in range(_TRIES):
        last = attempt == _TRIES - 1 and options.n_gpu_layers < 0
        place = planning.nowhere(plan, cards) if last else planning.placed(plan, cards, most=most)
        if attempt and not place.placement.layers:
            place = planning.nowhere(plan, cards)
        available = psutil.virtual_memory().available
        memory.refuse_if_too_big(plan.header, plan.estimate, available, plan.n_ctx, place.sizes, place.placement)
        try:
            return (place, *_brought_in(path, plan, place, progress))
        except native.OutOfMemory:
            ours = options.n_gpu_layers < 0 or _moves_experts(plan)
            if not place.placement.layers or not ours or attempt == _TRIES - 1:
                raise _no_room(path, plan, place) from None
            most = planning.less(place)
            if not most:
                raise _no_room(path, plan, place) from None
    raise AssertionError


def _moves_experts(plan: Plan) -> bool:
    """Whether it is left to us how many experts go to main memory."""
    return plan.header.n_expert_blocks > 0 and plan.options.n_cpu_moe < 0 and not plan.options.cpu_moe


def _brought_in(path: Path, plan: Plan, place: Placed, progress: Progress) -> tuple[Weights, Context]:
    """Raises: OutOfMemory, ModelFileError, InvalidInput, LoadCancelled; nothing stays in memory then."""
    from loaders.llamacpp import native

    cancelled = False
    options = plan.options

    def keep_going(fraction: float) -> bool:
        nonlocal cancelled
        cancelled = not progress(0.05 + 0.9 * fraction, "loading weights")
        return not cancelled

    weights = None
    try:
        weights = native.Weights(
            [str(part) for part in plan.header.parts],
            placement=place.placement,
            mmap=not options.no_mmap,
            mlock=options.mlock,
            progress=keep_going,
        )
        if not progress(0.95, "making the context"):
            raise LoadCancelled
        threads, _ = threads_and_reason(options.threads)
        return weights, native.Context(
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


def _no_room(path: Path, plan: Plan, place: Placed) -> NotEnoughMemory:
    """What a card, or the machine, that had no room means."""
    used = [card for card in place.cards if card.name in place.placement.cards]
    sizes = place.sizes or {}
    if not used:
        available = psutil.virtual_memory().available
        return NotEnoughMemory(path.name, plan.estimate.total, available, "Lower n_ctx, or choose a smaller model.")
    needed = sum(sizes[card.name].total for card in used if card.name in sizes) or plan.estimate.total
    names = " and ".join(titles(place.cards)[card.name] for card in used)
    advice = (
        f"{names} had no room for it when it was loaded. Lower n_gpu_layers or n_ctx, set no_offload_kqv, or close "
        "other programs that use the graphics card."
    )
    return NotEnoughMemory(path.name, needed, sum(card.free for card in used), advice)


def _why_no_shift(context: Context, limits: Limits) -> str:
    if limits.keep is None or context.can_shift:
        return ""
    return "context_shift has no effect: the memory of this model cannot be shifted, so a full context ends the reply"


def _by_card(account: Mapping[str, int], place: Placed) -> dict[str, tuple[int, int]]:
    """Of each card that holds something, by what it is called: the bytes there, and those that were forecast."""
    forecast = {name: size.total for name, size in (place.sizes or {}).items()}
    called = titles(place.cards)
    return {called[name]: (size, forecast.get(name, 0)) for name, size in account.items() if size and name in called}


def taken_in_words(sizes: Mapping[tuple[str, str], int], by_card: Mapping[str, tuple[int, int]]) -> str:
    """What llama.cpp has taken, by its own account. `by_card`: bytes of it on each card, by what it is called, and
    those that were forecast (0: none were).
    """
    kinds = {"weights": ("model",), "context": ("KV", "RS"), "buffers": ("compute", "output")}
    amounts = {name: sum(size for (_, kind), size in sizes.items() if kind in of) for name, of in kinds.items()}
    told = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in amounts.items())
    on_cards = " and ".join(
        f"{size / 1e9:.2f} GB on {title}" + (f" (forecast {expected / 1e9:.2f})" if expected else "")
        for title, (size, expected) in by_card.items()
    )
    return f"memory taken: {sum(amounts.values()) / 1e9:.2f} GB ({told})" + (f", of it {on_cards}" if on_cards else "")


def forecast(path: Path, options: GGUFOptions, limits: Limits, copies: int) -> Forecast:
    """What a GGUF will take, by device. Raises: ModelFileError, InvalidInput."""
    return planning.forecast(planning.plan(read_header(file_of(path)), options, limits, copies))
