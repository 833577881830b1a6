"""Loads a folder as an ExLlamaV2Model. exllamav2 and torch are imported when a model is loaded, not before."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from errors import (
    InvalidInput,
    LoadCancelled,
    MissingPackage,
    NoGraphicsCard,
    NotEnoughMemory,
    Unavailable,
)
from loaders.base import Loader, Model, Progress
from loaders.exllamav2 import folder, package
from loaders.exllamav2.options import ExLlamaV2Options
from loaders.forecast import DeviceForecast, Forecast, describe_forecast
from loaders.gpus import nvidia_free_memory
from loaders.hf_common.folder_check import refuse_contradictions
from loaders.hf_common.model_folder import choose_context_length
from loaders.params import LoadOptions

if TYPE_CHECKING:  # these import what may be missing
    from loaders.exllamav2.native import ExLlamaV2Weights
    from loaders.hf_common.tokenizer import FolderTokenizer

log = logging.getLogger(__name__)

_PAGE = 256  # tokens

_ADVICE = "Use a stronger quantization, a smaller max_seq_len or cache_type, or close other programs that use the GPUs."


class ExLlamaV2(Loader):
    """EXL2, GPTQ and unquantized folders on GPUs."""

    name = "ExLlamav2"
    summary = "EXL2, GPTQ and unquantized folders on NVIDIA and AMD GPUs, several requests at once."
    Options = ExLlamaV2Options

    @classmethod
    def accepts(cls, path: Path) -> int:
        """95 for EXL2, 85 for GPTQ, 30 for unquantized safetensors."""
        return folder.rate_folder(path)

    @classmethod
    def missing(cls) -> str | None:
        return package.explain_missing(cls.name)

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, ExLlamaV2Options)
        return forecast_folder(path, options)

    @classmethod
    def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
        """Raises: ModelFileError, InvalidInput."""
        del progress
        assert isinstance(options, ExLlamaV2Options)
        check_folder(path, options)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Load the model. Raises: Unavailable (package, GPU or memory missing), ModelFileError, InvalidInput,
        LoadCancelled.
        """
        assert isinstance(options, ExLlamaV2Options)
        return load_folder(cls.name, path, options, progress, build_model)


@dataclass(frozen=True)
class LoadedFolder:
    """A loaded folder, and notes about it."""

    path: Path
    weights: ExLlamaV2Weights
    tokenizer: FolderTokenizer
    notes: list[str]
    memory: int  # bytes


def forecast_folder(path: Path, options: ExLlamaV2Options) -> Forecast:
    """The memory of a folder on the GPUs. Raises: ModelFileError, InvalidInput."""
    read = folder.read_folder(path)
    notes: list[str] = []
    tokens = max(options.cache_size, choose_context(read, options, notes))
    cache = read.cache_bytes(tokens, options.choose_cache_type())
    device = DeviceForecast("the GPU", read.weights, cache, folder.OVERHEAD, nvidia_free_memory() or 0)
    return Forecast(
        (device,), describe_forecast((device,), f"{read.description}; {notes[0] if notes else f'{tokens:,} tokens'}")
    )


def check_folder(path: Path, options: ExLlamaV2Options) -> None:
    """Refuse files and options that cannot be loaded. Raises: ModelFileError, InvalidInput."""
    read = folder.read_folder(path)
    options.choose_cache_type(), options.parse_gpu_split(), options.count_draft_tokens()
    refuse_contradictions(read, indexed=False)


def build_model(found: LoadedFolder, options: ExLlamaV2Options) -> Model:
    """The native loader's model for a loaded folder."""
    from loaders.exllamav2.model import ExLlamaV2Model

    return ExLlamaV2Model(found.path.name, found.weights, found.tokenizer, options, found.notes, found.memory)


def load_folder(
    name: str,
    path: Path,
    options: ExLlamaV2Options,
    progress: Progress,
    build: Callable[[LoadedFolder, ExLlamaV2Options], Model],
) -> Model:
    """Load a folder onto the GPUs and build the model; on an error, nothing stays in memory.

    Raises: Unavailable (package, GPU or memory missing), ModelFileError, InvalidInput, LoadCancelled.
    """
    read = folder.read_folder(path)
    # contradictions are reported before anything slow begins
    options.choose_cache_type(), options.parse_gpu_split(), options.count_draft_tokens()
    import_native(name, progress)
    from loaders.exllamav2 import native
    from loaders.hf_common.tokenizer import FolderTokenizer

    cards = native.list_gpus()
    if not cards:
        raise NoGraphicsCard(name, "torch finds no usable one")
    if len(options.parse_gpu_split()) > len(cards):
        count = "one GPU" if len(cards) == 1 else f"{len(cards)} GPUs"
        raise InvalidInput(f"gpu_split {options.gpu_split} lists more GPUs than this machine has: {count}.")
    free = sum(each for each, _ in cards)
    notes: list[str] = []
    max_seq_len = choose_context(read, options, notes)
    cache = read.cache_bytes(max(options.cache_size, max_seq_len), options.choose_cache_type())
    if (need := read.weights + cache + folder.OVERHEAD) > free:
        raise NotEnoughMemory(path.name, need, free, _ADVICE)
    tokenizer = FolderTokenizer(path, read.number("vocab_size"))
    opening = LoadProgress(progress, parts=2 if options.draft_model.strip() else 1)
    weights = None
    try:
        weights = native.load_weights(read, options, max_seq_len, opening.step)
        memory = max(free - sum(each for each, _ in native.list_gpus()), 0)
        notes = [read.description, *notes, *weights.notes]
        notes.append(f"memory: {memory / 1e9:.1f} GB of GPU memory, about {cache / 1e9:.2f} GB of it for the cache")
        model = build(LoadedFolder(path, weights, tokenizer, notes, memory), options)
    except BaseException as error:
        if weights:
            weights.close()
        if native.is_out_of_memory(error):
            log.warning("loading %s: %s", path.name, error)
            raise NotEnoughMemory(path.name, need, free, _ADVICE) from None
        raise
    progress(1.0, "ready")
    return model


class LoadProgress:
    """Passes exllamav2's progress on, and cancels it on request."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self._progress = progress
        self._parts = parts
        self._done = 0  # models that are in memory
        self._last = 0.0

    def step(self, done: int, of: int) -> None:
        """Called before each layer and after the last one. Raises: LoadCancelled."""
        part = (self._done + done / max(of, 1)) / self._parts
        self._done += done == of
        if time.monotonic() - self._last > 0.05 or done == of:
            self._last = time.monotonic()
            if not self._progress(0.1 + 0.85 * min(part, 1.0), "loading weights"):
                raise LoadCancelled


def choose_context(read: folder.ExLlamaV2Folder, options: ExLlamaV2Options, notes: list[str]) -> int:
    """The context in tokens, in whole pages of the cache; the reason is appended to the notes."""
    reach = max(options.compress_pos_emb, 1) if options.alpha_value == 1 else math.inf
    return choose_context_length(options.max_seq_len, read.context_length, notes, reach=reach, step=_PAGE)


def import_native(loader: str, progress: Progress) -> None:
    """Import exllamav2 through our module; this may compile it. Raises: Unavailable, LoadCancelled."""
    if not progress(0.02, "starting ExLlamaV2 (the first start may compile it, which takes minutes)"):
        raise LoadCancelled
    why = package.explain_missing(loader)
    if why:
        raise Unavailable(why)
    try:
        import loaders.exllamav2.native
    except ModuleNotFoundError as error:
        raise MissingPackage(loader, error.name or "exllamav2", f"pip install {error.name}") from error
    except Exception as error:  # a missing compiler, a wheel for another torch: any kind of error
        log.warning("exllamav2 cannot be imported", exc_info=True)
        raise package.wrap_import_error(loader, error) from error
    assert loaders.exllamav2.native
    if not progress(0.1, "reading the folder"):
        raise LoadCancelled
