"""From a GGUF file to a running LlamaCppModel. llama_cpp is imported when a model is loaded, not before."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from errors import LoadCancelled, MissingPackage, ModelFileError
from loaders.base import Loader, Model, Progress
from loaders.forecast import Forecast
from loaders.llamacpp import architecture, attention, dry_run, memory, trial
from loaders.llamacpp.context_params import context_params, key_type
from loaders.llamacpp.gguf import GGUFHeader, read_header
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.options import GGUFOptions, LlamaCppOptions
from loaders.llamacpp.threads import threads_and_reason
from loaders.params import LoadOptions

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import Context, Weights
    from loaders.llamacpp.tokenizer import LlamaTokenizer

OptionsT = TypeVar("OptionsT", bound=GGUFOptions)

#: Without a wish of the user's, no more context than this: the model's own maximum can take all memory.
LARGEST_DEFAULT_CONTEXT = 8192


#: llama.cpp makes contexts of whole steps, and counts models up to so many layers (LLAMA_MAX_LAYERS).
_STEP, _MOST_LAYERS = 256, 512


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


def _check_layers(header: GGUFHeader) -> None:
    """llama.cpp ends the whole program over a number of layers that cannot be. Raises: ModelFileError."""
    if not 1 <= header.n_layers <= _MOST_LAYERS:
        raise ModelFileError(header.path.name, "it has a broken header: its number of layers makes no sense.")


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

    Raises: ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled; nothing stays in memory then.
    """
    progress(0.0, "reading the header")
    header = read_header(file_of(path))
    if why := architecture.refusal(header):
        raise ModelFileError(path.name, why)
    _check_layers(header)
    notes: list[str] = []
    n_ctx = _context(header, options, notes)
    cells = n_ctx * copies
    try:
        keys, why_keys = key_type(header, options, limits)
        plan = memory.forecast(header, cells, options.cache_type, keys)
    except (TypeError, ValueError, OverflowError):
        raise ModelFileError(
            path.name, "it has a broken header: its metadata make no sense. Download it again."
        ) from None
    # here, not above: these import llama_cpp
    from loaders.llamacpp import native
    from loaders.llamacpp.tokenizer import LlamaTokenizer

    native.start(options.numa)
    flash, why_flash = attention.choose(
        header, options, card=native.gpu_memory() is not None and not options.cpu, exact=not limits.shared
    )
    params = context_params(options, limits, cells, keys, flash, header.n_heads)
    shifts = trial.check(
        header.parts,
        params,
        psutil.virtual_memory().available,
        lambda: progress(0.02, "trying the file for one token"),
        shift=limits.keep is not None,
    )
    n_gpu_layers = _gpu_layers(header, options, plan, notes)
    on_gpu = memory.on_gpu(header, plan, n_gpu_layers, cache_on_cpu=options.no_offload_kqv)
    memory.refuse_if_too_big(header, plan, psutil.virtual_memory().available, n_ctx, on_gpu)
    cancelled = False

    def keep_going(fraction: float) -> bool:
        nonlocal cancelled
        cancelled = not progress(0.05 + 0.9 * fraction, "loading weights")
        return not cancelled

    weights = context = None
    try:
        with native.counting():
            weights = native.Weights(
                [str(part) for part in header.parts],
                n_gpu_layers=n_gpu_layers,
                tensor_split=options.split(),
                mmap=not options.no_mmap,
                mlock=options.mlock,
                progress=keep_going,
            )
            if not progress(0.95, "making the context"):
                raise LoadCancelled
            threads, reason = threads_and_reason(options.threads)
            context = native.Context(
                weights,
                n_threads=threads,
                n_threads_batch=options.threads_batch or threads,
                **params,
            )
            context.can_shift = context.can_shift and shifts and not header.scales_keys
            tokenizer = LlamaTokenizer(weights, header.chat_template)
            taken = native.sizes()
        notes += [reason, *filter(None, [why_flash, why_keys, _why_no_shift(context, limits)])]
        notes.append(taken_in_words(taken))
        if why := architecture.only_embeds(header):
            notes.append(f"this {why}")
        found = Opened(
            path, weights, context, tokenizer, notes, sum(taken.values()), f"{path.name} {why}" if why else ""
        )
        model = build(found, options, limits)
    except BaseException as error:
        if context:
            context.close()
        if weights:
            weights.close()
        if cancelled:
            raise LoadCancelled from None
        if isinstance(error, ModelFileError):
            raise ModelFileError(path.name, str(error).partition(": ")[2]) from None
        raise
    progress(1.0, "ready")
    return model


def _why_no_shift(context: Context, limits: Limits) -> str:
    if limits.keep is None or context.can_shift:
        return ""
    return "context_shift has no effect: the memory of this model cannot be shifted, so a full context ends the reply"


def taken_in_words(sizes: Mapping[tuple[str, str], int]) -> str:
    """What llama.cpp has taken, by its own account."""
    kinds = {"weights": ("model",), "context": ("KV",), "buffers": ("compute", "output")}
    amounts = {name: sum(size for (_, kind), size in sizes.items() if kind in of) for name, of in kinds.items()}
    told = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in amounts.items())
    return f"memory taken: {sum(amounts.values()) / 1e9:.2f} GB ({told})"


def forecast(path: Path, options: GGUFOptions, limits: Limits, copies: int) -> Forecast:
    """What a GGUF will take, by device. Raises: ModelFileError, InvalidInput."""
    header = read_header(file_of(path))
    notes: list[str] = []
    cells = _context(header, options, notes) * copies
    try:
        keys, _ = key_type(header, options, limits)
        plan = memory.forecast(header, cells, options.cache_type, keys)
    except (TypeError, ValueError, OverflowError):
        raise ModelFileError(path.name, "it has a broken header: its metadata make no sense.") from None
    _check_layers(header)
    parts = tuple(str(part) for part in header.parts)
    context = _fields(header, options, limits, cells, keys, options.flash_attn)
    stamp = header.path.stat().st_mtime
    wished = max(options.n_gpu_layers, 0) if not options.cpu else 0
    answer = dry_run.asked(dry_run.Question(parts, wished, context, stamp))
    cards = answer.cards if answer else ()
    free = sum(each[1] for each in cards)
    if cards and options.n_gpu_layers < 0 and not options.cpu:
        wished, reason = memory.layers_that_fit(header, plan, free, cache_on_cpu=options.no_offload_kqv)
        answer = dry_run.asked(dry_run.Question(parts, wished, context, stamp)) or answer
    elif not cards:
        flash = attention.expected(header, options, exact=not limits.shared)
        if flash != options.flash_attn:
            context = _fields(header, options, limits, cells, keys, flash)
            answer = dry_run.asked(dry_run.Question(parts, 0, context, stamp)) or answer
        wished, reason = 0, "the CPU computes: llama.cpp finds no GPU"
    else:
        reason = f"{min(wished, header.n_layers + 1)} of {header.n_layers + 1} layers on the GPU, as asked"
    card = (cards[0][0] if len(cards) == 1 else f"{len(cards)} cards", free) if cards else None
    return memory.by_device(
        header,
        plan,
        wished,
        f"{reason}; {notes[0]}",
        answer.buffers if answer else None,
        card,
        psutil.virtual_memory().available,
        cache_on_cpu=options.no_offload_kqv,
        mapped=not options.no_mmap,
    )


def _fields(
    header: GGUFHeader, options: GGUFOptions, limits: Limits, cells: int, keys: str, flash: str
) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(context_params(options, limits, cells, keys, flash, header.n_heads).items()))


def _gpu_layers(header: GGUFHeader, options: GGUFOptions, plan: memory.Forecast, notes: list[str]) -> int:
    """How many layers go to the GPU; the reason goes to the notes."""
    from loaders.llamacpp import native

    layers = header.n_layers + 1
    if options.cpu:
        notes.append(f"0 of {layers} layers on the GPU: the option cpu is on")
        return 0
    gpu = native.gpu_memory()
    if gpu is None:
        if options.n_gpu_layers > 0:
            notes.append(f"0 of {layers} layers on the GPU: llama.cpp finds none, so n_gpu_layers has no effect")
        else:
            notes.append("runs on the CPU: llama.cpp finds no GPU")
        return 0
    if options.n_gpu_layers >= 0:
        notes.append(f"{min(options.n_gpu_layers, layers)} of {layers} layers on the GPU, as asked")
        return options.n_gpu_layers
    fitting, reason = memory.layers_that_fit(header, plan, gpu, cache_on_cpu=options.no_offload_kqv)
    notes.append(reason)
    return fitting
