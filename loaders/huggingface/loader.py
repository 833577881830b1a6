"""Loads a Hugging Face folder. torch and transformers are imported when a model is loaded."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import psutil

from errors import LoadCancelled, ModelFileError, NotEnoughMemory, Unavailable
from loaders.base import Loader, Model, Progress
from loaders.forecast import DeviceForecast, Forecast, describe_forecast
from loaders.gpus import nvidia_free_memory
from loaders.hf_common import packages
from loaders.hf_common.folder_check import refuse_contradictions
from loaders.hf_common.model_folder import choose_context_length
from loaders.huggingface import folder
from loaders.huggingface.options import TransformersOptions
from loaders.params import LoadOptions
from loaders.shared_options import LARGEST_DEFAULT_CONTEXT

log = logging.getLogger(__name__)

#: Approximate memory of a forward pass besides weights and cache, including the libraries.
_BUFFERS = 500_000_000


class Transformers(Loader):
    """Folders with config.json and safetensors, on any device that torch supports."""

    name = "Transformers"
    summary = (
        "Hugging Face folders (safetensors) on the CPU or GPUs; supports every architecture that transformers supports."
    )
    Options = TransformersOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        """60 for a folder with config.json and weights, 10 for one with its own loader."""
        return folder.rate_folder(path)

    @classmethod
    def refuses(cls, path: Path) -> str | None:
        if not (path / "config.json").is_file():
            return None
        try:
            folder.read_folder(path, pickles=True, code=True)
        except ModelFileError as error:
            return str(error).partition(": ")[2]
        return None

    @classmethod
    def missing(cls) -> str | None:
        return packages.explain_missing(cls.name)

    @classmethod
    def forecast(cls, path: Path, options: LoadOptions) -> Forecast:
        """From the folder's files: weights in the dtype that they will have, the cache of a full context.

        Raises: ModelFileError, InvalidInput.
        """
        assert isinstance(options, TransformersOptions)
        read = folder.read_folder(path, pickles=options.allow_pickle, code=options.trust_remote_code)
        card = None if options.cpu else nvidia_free_memory()
        notes: list[str] = []
        n_ctx = _context(read, options, notes)
        each = 2 if options.bf16 or card is not None else 4
        per_weight = 0.6 if options.load_in_4bit else 1.1 if options.load_in_8bit else each
        weights = round(read.weights * per_weight / max(read.bytes_per_weight, 1))
        cache = read.cache_values(n_ctx) * each
        free = psutil.virtual_memory().available if card is None else card
        device = DeviceForecast("memory" if card is None else "the GPU", weights, cache, _BUFFERS, free)
        where = "the model runs on the CPU" if card is None else "all layers go to the GPU, unless a limit is set"
        reason = f"{where}; {notes[0]}; the cache grows with the conversation up to that size"
        return Forecast((device,), describe_forecast((device,), reason))

    @classmethod
    def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
        """Raises: ModelFileError, InvalidInput."""
        del progress
        assert isinstance(options, TransformersOptions)
        read = folder.read_folder(path, pickles=options.allow_pickle, code=options.trust_remote_code)
        options.parse_gpu_memory(), options.parse_cpu_memory()
        refuse_contradictions(read)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, TransformersOptions)
        if why := cls.missing():
            raise Unavailable(why)
        read = folder.read_folder(path, pickles=options.allow_pickle, code=options.trust_remote_code)
        options.parse_gpu_memory(), options.parse_cpu_memory()  # invalid options are reported before anything heavy
        if not progress(0.02, "starting torch"):
            raise LoadCancelled
        from loaders.huggingface import native

        notes: list[str] = []
        n_ctx = _context(read, options, notes)
        plan = native.plan_devices(options, notes)
        _refuse_if_too_big(read, plan, options)
        if options.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            raise Unavailable(
                "load_in_4bit requires the package bitsandbytes. Install it with: pip install bitsandbytes"
            )
        if options.trust_remote_code and read.has_code:
            log.warning("%s contains its own Python code, which runs because trust_remote_code is on.", path.name)
            notes.append("the model's own Python code runs (trust_remote_code is on)")
        return native.open_model(read, options, plan, n_ctx, notes, progress)


def _context(read: folder.TransformersFolder, options: TransformersOptions, notes: list[str]) -> int:
    if not options.max_seq_len and not read.context_length and read.has_unlimited_context:
        notes.append(f"context: {LARGEST_DEFAULT_CONTEXT:,} tokens; the model sets no limit")
        return LARGEST_DEFAULT_CONTEXT
    reach = max(options.compress_pos_emb, options.alpha_value)
    return choose_context_length(options.max_seq_len, read.context_length, notes, reach=reach)


def _refuse_if_too_big(read: folder.TransformersFolder, plan: Any, options: TransformersOptions) -> None:
    """If everything must fit into main memory, report too little before loading. Raises: NotEnoughMemory."""
    if plan.cuda or options.disk:
        return
    need = read.weights * plan.bytes_per_weight // max(read.bytes_per_weight, 1)
    free = psutil.virtual_memory().available
    if need > free:
        advice = "Use bf16, a smaller model, or a quantized GGUF version of it with llama.cpp."
        raise NotEnoughMemory(read.path.name, need, free, advice)
