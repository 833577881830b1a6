"""The llama.cpp loader: GGUF files. llama_cpp is imported when a model is loaded, not before."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from errors import MissingPackage
from loaders.base import Loader, Model, Progress
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.llamacpp import architecture, draft_loading
from loaders.llamacpp.companions import models_in
from loaders.llamacpp.draft_loading import LoadedDraft
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.loading import LoadedGGUF, check_gguf, gguf_file, load_gguf
from loaders.llamacpp.options import GGUFOptions, LlamaCppOptions
from loaders.llamacpp.placement import planning
from loaders.params import LoadOptions


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
    def isolates(cls, options: LoadOptions) -> bool:
        """With other machines: llama.cpp ends the process when the connection to one breaks."""
        assert isinstance(options, GGUFOptions)
        return bool(options.parse_rpc())

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
        if draft := draft_loading.find_draft(path, options):
            return draft_loading.forecast(path, options, limits, draft)
        return forecast_gguf(path, options, limits, limits.copies)

    @classmethod
    def quick_forecast(cls, path: Path, options: LoadOptions, cards: Sequence[Gpu]) -> Forecast | None:
        """Raises: ModelFileError, InvalidInput."""
        assert isinstance(options, LlamaCppOptions)
        limits = engine_limits(options)
        if draft := draft_loading.find_draft(path, options):
            return draft_loading.quick_forecast(path, options, limits, draft, cards)
        return quick_forecast_gguf(path, options, limits, limits.copies, cards)

    @classmethod
    def forget(cls, label: str) -> None:
        from loaders.llamacpp.engine.disk_cache import forget_states

        forget_states(label)

    @classmethod
    def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
        """Raises: ModelFileError, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppOptions)
        if cls.missing():
            return
        limits = engine_limits(options)
        if draft := draft_loading.find_draft(path, options):
            draft_loading.check(draft, options, limits, progress)
        check_gguf(path, options, limits, limits.copies, progress)

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        """Raises: MissingPackage, ModelFileError, NotEnoughMemory, InvalidInput, LoadCancelled."""
        assert isinstance(options, LlamaCppOptions)
        if cls.missing():
            raise MissingPackage(cls.name, "llama-cpp-python", "pip install llama-cpp-python")
        limits = engine_limits(options)
        draft = draft_loading.find_draft(path, options)
        if draft is None:
            return load_gguf(path, options, limits, limits.copies, progress, build_model)
        return draft_loading.load_with_draft(path, options, limits, draft, progress, build_model)


def _first_file(path: Path) -> Path | None:
    """The GGUF file at this path or in this folder, if there is one."""
    files = models_in(path)[:1] if path.is_dir() else [path]
    return files[0] if files and files[0].suffix.lower() == ".gguf" else None


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
        disk_bytes=parse_capacity(options.kv_disk, "kv_disk"),
        speculates=options.spec_type != "none" or bool(options.draft_model.strip()),
    )


def build_model(
    found: LoadedGGUF, options: LlamaCppOptions, limits: EngineLimits, draft: LoadedDraft | None = None
) -> Model:
    """The native loader's model for a loaded GGUF, with a draft model if there is one."""
    from loaders.llamacpp.engine.disk_cache import DiskCache
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
        draft,
        DiskCache(limits.disk_bytes, found.identity) if limits.disk_bytes and not found.only_embeds else None,
    )


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
