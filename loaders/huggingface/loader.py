"""From a Hugging Face folder to a running model. torch and transformers are imported when a model is loaded."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import psutil

from errors import LoadCancelled, ModelFileError, NotEnoughMemory, Unavailable
from loaders.base import Loader, Model, Progress
from loaders.cards import free_card_memory
from loaders.forecast import DeviceForecast, Forecast, in_words
from loaders.hf import packages
from loaders.huggingface import folder
from loaders.huggingface.options import TransformersOptions
from loaders.params import LoadOptions

log = logging.getLogger(__name__)

#: Without a wish of the user's, no more context than this: the model's own maximum can take all memory.
LARGEST_DEFAULT_CONTEXT = 8192


#: What a forward pass takes beside weights and cache, roughly; the libraries themselves count as well.
_BUFFERS = 500_000_000


class Transformers(Loader):
    """Folders with config.json and safetensors, on any device that torch knows."""

    name = "Transformers"
    summary = "Hugging Face folders (safetensors), on the CPU or GPUs: every architecture that transformers knows."
    Options = TransformersOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """60 for a folder with config.json and weights, 10 for one that another loader is made for."""
        return folder.suits(path)

    @classmethod
    def refuses(cls, path: Path) -> str | None:
        if not (path / "config.json").is_file():
            return None
        try:
            folder.read(path, pickles=True, code=True)
        except ModelFileError as error:
            return str(error).partition(": ")[2]
        return None

    @classmethod
    def missing(cls) -> str | None:
        return packages.missing(cls.name)

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast:
        """By the folder's files: weights in the precision that they will have, the cache of a full context.

        Raises: ModelFileError, InvalidInput.
        """
        assert isinstance(options, TransformersOptions)
        read = folder.read(path, pickles=options.allow_pickle, code=options.trust_remote_code)
        card = None if options.cpu else free_card_memory()
        notes: list[str] = []
        n_ctx = _context(read, options, notes)
        each = 2 if options.bf16 or card is not None else 4
        per_weight = 0.6 if options.load_in_4bit else 1.1 if options.load_in_8bit else each
        weights = round(read.weights * per_weight / max(read.bytes_per_weight, 1))
        cache = read.cache_values(n_ctx) * each
        free = psutil.virtual_memory().available if card is None else card
        device = DeviceForecast("memory" if card is None else "the card", weights, cache, _BUFFERS, free)
        where = "the CPU computes" if card is None else "all layers go to the card, unless a limit is set"
        reason = f"{where}; {notes[0]}; the cache grows with a conversation up to that"
        return Forecast((device,), in_words((device,), reason))

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, TransformersOptions)
        if why := cls.missing():
            raise Unavailable(why)
        read = folder.read(path, pickles=options.allow_pickle, code=options.trust_remote_code)
        options.gpu_limits(), options.cpu_limit()  # what makes no sense is said before anything heavy
        if not progress(0.02, "starting torch"):
            raise LoadCancelled
        from loaders.huggingface import native

        notes: list[str] = []
        n_ctx = _context(read, options, notes)
        plan = native.plan(options, notes)
        _refuse_if_too_big(read, plan, options)
        if options.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            raise Unavailable("load_in_4bit needs the package bitsandbytes. Install it with: pip install bitsandbytes")
        if options.trust_remote_code and read.has_code:
            log.warning("%s brings Python code of its own, and trust_remote_code lets it run.", path.name)
            notes.append("the folder's own Python code runs: trust_remote_code is on")
        return native.opened(read, options, plan, n_ctx, notes, progress)


def _context(read: folder.Folder, options: TransformersOptions, notes: list[str]) -> int:
    own = read.context_length
    if options.max_seq_len:
        notes.append(f"context: {options.max_seq_len:,} tokens, as asked")
        if own and options.max_seq_len > own * max(options.compress_pos_emb, options.alpha_value):
            notes.append(f"the model was trained for {own:,} tokens: expect worse text beyond them")
        return options.max_seq_len
    if not own and read.has_no_end:
        notes.append(f"context: {LARGEST_DEFAULT_CONTEXT:,} tokens; the model has no limit of its own")
        return LARGEST_DEFAULT_CONTEXT
    own = own or 2048
    n_ctx = min(own, LARGEST_DEFAULT_CONTEXT)
    notes.append(f"context: {n_ctx:,} tokens" + (f" of the model's {own:,}" if own > n_ctx else ", the model's own"))
    return n_ctx


def _refuse_if_too_big(read: folder.Folder, plan: Any, options: TransformersOptions) -> None:
    """Where everything must fit into main memory, say so before loading. Raises: NotEnoughMemory."""
    if plan.cuda or options.disk:
        return
    need = read.weights * plan.bytes_per_weight // max(read.bytes_per_weight, 1)
    free = psutil.virtual_memory().available
    if need > free:
        advice = "Take bf16, a smaller model, or a quantized GGUF version of it with llama.cpp."
        raise NotEnoughMemory(read.path.name, need, free, advice)


def refuse(path: Path, error: BaseException) -> ModelFileError:
    """Transformers' own words for a folder that it cannot load, as a sentence."""
    told = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    return ModelFileError(path.name, f"transformers says: {told}.")
