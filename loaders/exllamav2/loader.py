"""From a folder to a running ExLlamaV2Model. exllamav2 and torch are imported when a model is loaded, not before."""

from __future__ import annotations

import logging
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
from loaders.cards import free_card_memory
from loaders.exllamav2 import folder, package
from loaders.exllamav2.options import ExLlamaV2Options
from loaders.forecast import DeviceForecast, Forecast, in_words
from loaders.params import LoadOptions

if TYPE_CHECKING:  # these import what may be missing
    from loaders.exllamav2.native import Weights
    from loaders.hf.tokenizer import FolderTokenizer

log = logging.getLogger(__name__)

#: Without a wish of the user's, no more context than this: the model's own maximum can take all memory.
LARGEST_DEFAULT_CONTEXT = 8192
_PAGE = 256

_ADVICE = "Choose a stronger quantization, a smaller max_seq_len or cache_type, or close what else uses the cards."


class ExLlamaV2(Loader):
    """EXL2, GPTQ and unquantized folders on graphics cards."""

    name = "ExLlamav2"
    summary = "EXL2, GPTQ and unquantized folders on NVIDIA and AMD cards, several requests at once."
    Options = ExLlamaV2Options

    @classmethod
    def accepts(cls, path: Path) -> int:
        """95 for EXL2, 85 for GPTQ, 30 for unquantized safetensors."""
        return folder.suits(path)

    @classmethod
    def missing(cls) -> str | None:
        return package.missing(cls.name)

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, ExLlamaV2Options)
        return forecast(path, options)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: Unavailable (package, card or memory lacks), ModelFileError, InvalidInput, LoadCancelled."""
        assert isinstance(options, ExLlamaV2Options)
        return opened(cls.name, path, options, progress, build)


@dataclass(frozen=True)
class Opened:
    """A folder on the cards, and what is to be said about it."""

    path: Path
    weights: Weights
    tokenizer: FolderTokenizer
    notes: list[str]
    memory: int  # bytes


def forecast(path: Path, options: ExLlamaV2Options) -> Forecast:
    """What a folder takes on the cards. Raises: ModelFileError, InvalidInput."""
    read = folder.read(path)
    notes: list[str] = []
    tokens = max(options.cache_size, context(read, options, notes))
    cache = read.cache_bytes(tokens, options.cache())
    device = DeviceForecast("the card", read.weights, cache, folder.OVERHEAD, free_card_memory() or 0)
    return Forecast((device,), in_words((device,), f"{read.described}; {notes[0] if notes else f'{tokens:,} tokens'}"))


def build(found: Opened, options: ExLlamaV2Options) -> Model:
    """The native loader's model of what was opened."""
    from loaders.exllamav2.model import ExLlamaV2Model

    return ExLlamaV2Model(found.path.name, found.weights, found.tokenizer, options, found.notes, found.memory)


def opened(
    name: str,
    path: Path,
    options: ExLlamaV2Options,
    progress: Progress,
    build: Callable[[Opened, ExLlamaV2Options], Model],
) -> Model:
    """Bring a folder onto the cards and build the model on it; nothing stays there where that fails.

    Raises: Unavailable (package, card or memory lacks), ModelFileError, InvalidInput, LoadCancelled.
    """
    read = folder.read(path)
    options.cache(), options.split(), options.drafted()  # what makes no sense is said before anything heavy
    import_native(name, progress)
    from loaders.exllamav2 import native
    from loaders.hf.tokenizer import FolderTokenizer

    cards = native.cards()
    if not cards:
        raise NoGraphicsCard(name, "torch finds none that it can use")
    if len(options.split()) > len(cards):
        count = "one graphics card" if len(cards) == 1 else f"{len(cards)} graphics cards"
        raise InvalidInput(f"gpu_split {options.gpu_split} names more cards than there are: {count}.")
    free = sum(each for each, _ in cards)
    notes: list[str] = []
    max_seq_len = context(read, options, notes)
    cache = read.cache_bytes(max(options.cache_size, max_seq_len), options.cache())
    if (need := read.weights + cache + folder.OVERHEAD) > free:
        raise NotEnoughMemory(path.name, need, free, _ADVICE)
    tokenizer = FolderTokenizer(path, read.number("vocab_size"))
    opening = Opening(progress, parts=2 if options.draft_model.strip() else 1)
    weights = None
    try:
        weights = native.opened(read, options, max_seq_len, opening.step)
        memory = max(free - sum(each for each, _ in native.cards()), 0)
        notes = [read.described, *notes, *weights.notes]
        notes.append(
            f"memory: {memory / 1e9:.1f} GB of the graphics cards, about {cache / 1e9:.2f} of it for the cache"
        )
        model = build(Opened(path, weights, tokenizer, notes, memory), options)
    except BaseException as error:
        if weights:
            weights.close()
        if native.is_out_of_memory(error):
            log.warning("loading %s: %s", path.name, error)
            raise NotEnoughMemory(path.name, need, free, _ADVICE) from None
        raise
    progress(1.0, "ready")
    return model


class Opening:
    """Passes exllamav2's steps on as progress, and the wish to stop back."""

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


def context(read: folder.Folder, options: ExLlamaV2Options, notes: list[str]) -> int:
    """The context in tokens, whole pages; the reason goes to the notes."""
    own = read.context_length
    if options.max_seq_len:
        tokens = -(-options.max_seq_len // _PAGE) * _PAGE
        notes.append(f"context: {tokens:,} tokens, as asked")
        if own and tokens > own * max(options.compress_pos_emb, 1) and options.alpha_value == 1:
            notes.append(f"the model was trained for {own:,} tokens: expect worse text beyond them")
        return tokens
    own = own or 2048
    tokens = max(min(own, LARGEST_DEFAULT_CONTEXT) // _PAGE, 1) * _PAGE
    notes.append(f"context: {tokens:,} tokens" + (f" of the model's {own:,}" if own > tokens else ", the model's own"))
    return tokens


def import_native(loader: str, progress: Progress) -> None:
    """Import exllamav2 through our module, which may compile it. Raises: Unavailable, LoadCancelled."""
    if not progress(0.02, "starting ExLlamaV2 (the first time it may compile for minutes)"):
        raise LoadCancelled
    why = package.missing(loader)
    if why:
        raise Unavailable(why)
    try:
        import loaders.exllamav2.native
    except ModuleNotFoundError as error:
        raise MissingPackage(loader, error.name or "exllamav2", f"pip install {error.name}") from error
    except Exception as error:  # a compiler that is not there, a wheel for another torch: any kind of error
        log.warning("exllamav2 cannot be imported", exc_info=True)
        raise package.broken(loader, error) from error
    assert loaders.exllamav2.native
    if not progress(0.1, "reading the folder"):
        raise LoadCancelled
