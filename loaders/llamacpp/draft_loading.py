"""Loads a second, small model that drafts tokens for another one: where its file is, how it is loaded, whether it fits.

It is loaded first, so that the other model is placed in what is left. llama_cpp is imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from errors import InvalidInput
from loaders.base import Model, Progress
from loaders.forecast import Forecast
from loaders.gpus import Gpu
from loaders.llamacpp import architecture
from loaders.llamacpp.companions import models_in
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.gguf import read_header
from loaders.llamacpp.loading import LoadedGGUF, check_gguf, gguf_file, load_gguf
from loaders.llamacpp.options import LlamaCppOptions
from loaders.llamacpp.placement import planning
from loaders.llamacpp.rpc import NETWORK

if TYPE_CHECKING:  # these import llama_cpp
    from loaders.llamacpp.native import LlamaWeights

#: The same vocabulary may be padded to another number of token ids.
_PADDING = 128
#: The share of the progress bar that the draft model gets.
_SHARE = 0.2

#: Builds the model from the loaded file, the options, the limits and the draft model.
Build = Callable[[LoadedGGUF, LlamaCppOptions, EngineLimits, "LoadedDraft"], Model]


@dataclass(frozen=True)
class LoadedDraft:
    """A loaded draft model; its context has `sequences` sequences that share their cells."""

    file: LoadedGGUF
    sequences: int
    n_batch: int

    def close(self) -> None:
        self.file.tokenizer.close()
        self.file.context.close()
        self.file.weights.close()


def find_draft(path: Path, options: LlamaCppOptions) -> Path | None:
    """The GGUF file of the option draft_model; None if it is not set. Raises: InvalidInput."""
    name = options.draft_model.strip()
    if not name:
        idle = [each for each in options.NEEDS if each in options.differing()]
        if idle:
            raise InvalidInput(f"{' and '.join(idle)} only applies with draft_model, which is not set. Set it, too.")
        return None
    folder = path if path.is_dir() else path.parent
    for place in (folder / name, folder.parent / name, Path(name)):
        for each in (place, place.with_name(f"{place.name}.gguf")):
            if each.suffix.lower() == ".gguf" and each.is_file():
                return each
            if each.is_dir() and models_in(each):
                return gguf_file(each)
    raise InvalidInput(
        f"Draft model not found: {name!r}. Set draft_model to the path of a GGUF file, or to the name of one next to "
        "this model."
    )


def check(draft: Path, options: LlamaCppOptions, limits: EngineLimits, progress: Progress) -> None:
    """Refuse a draft model as `load_with_draft` does, without loading it. Raises: as check_gguf."""
    _require_text(draft)
    check_gguf(draft, _draft_options(options), _draft_limits(limits), _copies(options, limits), progress)


def load_with_draft(
    path: Path, options: LlamaCppOptions, limits: EngineLimits, draft: Path, progress: Progress, build: Build
) -> Model:
    """Load a GGUF with a draft model. Raises: as load_gguf; InvalidInput if the two do not fit together."""
    _require_text(draft)
    own, own_limits = _draft_options(options), _draft_limits(limits)
    found = load_gguf(
        draft,
        own,
        own_limits,
        _copies(options, limits),
        lambda done, doing: progress(_SHARE * done, f"draft model: {doing}"),
        lambda found, _, __: LoadedDraft(found, own_limits.sequences, own.n_batch),
    )
    try:
        if not found.file.context.can_cut:
            raise InvalidInput(
                f"{draft.stem} cannot be a draft model: its state cannot go back after a wrong guess. Choose one with "
                "attention in all layers."
            )
        return load_gguf(
            path,
            options,
            limits,
            limits.copies,
            lambda done, doing: progress(_SHARE + (1 - _SHARE) * done, doing),
            partial(_build, draft=found, build=build),
        )
    except BaseException:
        found.close()
        raise


def _require_text(draft: Path) -> None:
    """Raises: InvalidInput, if it is for embeddings alone."""
    if why := architecture.explain_embedding_only(read_header(draft)):
        raise InvalidInput(f"{draft.stem} cannot be a draft model: it {why}")


def _build(
    found: LoadedGGUF, options: LlamaCppOptions, limits: EngineLimits, *, draft: LoadedDraft, build: Build
) -> Model:
    """Raises: InvalidInput if the vocabularies differ."""
    if why := _explain_difference(found.weights, draft.file.weights):
        raise InvalidInput(
            f"{draft.file.name} cannot draft for {found.name}: {why}. Choose a draft model of the same family."
        )
    threads = found.context.threads
    draft.file.context.set_threads(threads, threads)
    if found.context.can_cut:
        found.notes.append(
            f"{draft.file.name} drafts up to {options.spec_draft_max} tokens ahead, where that is faster"
        )
    return build(replace(found, memory=found.memory + draft.file.memory), options, limits, draft)


def _explain_difference(weights: LlamaWeights, drafting: LlamaWeights) -> str:
    """What differs between two vocabularies, as a clause; "" if nothing that matters does."""
    from loaders.llamacpp.library import C

    kinds = [C.llama_vocab_type(each.vocab) for each in (weights, drafting)]
    counts = [weights.n_vocab, drafting.n_vocab]
    if kinds[0] != kinds[1]:
        return "its vocabulary is of another kind"
    if abs(counts[0] - counts[1]) > _PADDING:
        return f"it has {counts[1]:,} token ids, and the model has {counts[0]:,}"
    for token in range(min(counts)):
        if C.llama_vocab_get_text(weights.vocab, token) != C.llama_vocab_get_text(drafting.vocab, token):
            return f"its vocabulary differs (token {token:,})"
    return ""


def _draft_options(options: LlamaCppOptions) -> LlamaCppOptions:
    """How the draft model is loaded: like the model where nothing else is said, but on this machine only, because each
    step of it would wait for the network. Raises: InvalidInput.
    """
    shared = (
        "cpu", "n_batch", "n_ubatch", "threads", "threads_batch", "numa", "no_mmap", "mlock", "flash_attn",
        "no_offload_kqv", "parallel", "fit_target",
    )  # fmt: skip
    return LlamaCppOptions.parse(
        {
            **{name: getattr(options, name) for name in shared},
            "n_ctx": options.ctx_size_draft or options.n_ctx,
            "n_gpu_layers": options.gpu_layers_draft,
            "devices": options.device_draft or _own_devices(options),
        }
    )


def _own_devices(options: LlamaCppOptions) -> str:
    """`devices` without those of other machines."""
    names = [each.strip() for each in options.devices.split(",") if each.strip()]
    own = [each for each in names if not each.startswith(NETWORK)]
    return ",".join(own) or ("none" if names else "")


def _draft_limits(limits: EngineLimits) -> EngineLimits:
    return EngineLimits(parallel=limits.parallel, n_batch=limits.n_batch)


def _copies(options: LlamaCppOptions, limits: EngineLimits) -> int:
    """The cells of the draft model's cache as a multiple of its n_ctx: as many as the running requests may need."""
    return 1 if options.ctx_size_draft or limits.shared else limits.parallel


def forecast(path: Path, options: LlamaCppOptions, limits: EngineLimits, draft: Path) -> Forecast:
    """The memory of both models per device. Raises: ModelFileError, InvalidInput."""
    before, after = _plans(path, options, limits, draft)
    return planning.forecast_memory(before, after=after)


def quick_forecast(
    path: Path, options: LlamaCppOptions, limits: EngineLimits, draft: Path, cards: Sequence[Gpu]
) -> Forecast:
    """As `forecast`, by the headers only. Raises: ModelFileError, InvalidInput."""
    before, after = _plans(path, options, limits, draft)
    return planning.quick_forecast_plan(before, cards, after=after)


def _plans(
    path: Path, options: LlamaCppOptions, limits: EngineLimits, draft: Path
) -> tuple[planning.LoadPlan, planning.LoadPlan]:
    own = _draft_options(options)
    before = planning.plan_load(read_header(draft), own, _draft_limits(limits), _copies(options, limits))
    return before, planning.plan_load(read_header(gguf_file(path)), options, limits, limits.copies)
