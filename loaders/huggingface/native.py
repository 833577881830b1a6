"""transformers and torch behind a function that loads a folder. Imported when a model loads, not before.

Nothing is downloaded: only files on this machine are read.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as hub_logging

from errors import LoadCancelled, ModelFileError, OutOfGpuMemory, Unavailable, UserError
from loaders.base import Model, Progress
from loaders.hf_common.model import HFBackend, HFModel
from loaders.hf_common.search import BeamAndContrastiveSearch
from loaders.hf_common.tokenizer import FolderTokenizer
from loaders.huggingface import rope
from loaders.huggingface.adapters import PeftAdapters
from loaders.huggingface.cache import cache_argument_name, can_copy_cache
from loaders.huggingface.cache_probe import Continuation, is_known_to_continue, probe_continuation
from loaders.huggingface.decoder import TransformersDecoder
from loaders.huggingface.folder import TransformersFolder, wrap_load_error
from loaders.huggingface.options import TransformersOptions

log = logging.getLogger(__name__)

hub_logging.disable_progress_bar()  # replaced by ours

Made = TypeVar("Made")

#: Beams of a search: each has its own cache.
MOST_BEAMS = 16

_NO_CONTRAST = "Contrastive search copies the cache for each candidate, which this model does not support."


@dataclass(frozen=True)
class DevicePlan:
    """The device and dtype of the weights. `more` are arguments of from_pretrained."""

    cuda: bool
    dtype: Any
    more: dict[str, Any]

    @property
    def bytes_per_weight(self) -> int:
        return int(torch.finfo(self.dtype).bits // 8)


def plan_devices(options: TransformersOptions, notes: list[str]) -> DevicePlan:
    """Decide on devices and dtype; the reasons go to the notes. Raises: Unavailable."""
    device = None if options.cpu else _device()
    quantized = options.load_in_4bit or options.load_in_8bit
    if quantized and device != "cuda":
        raise Unavailable(
            "load_in_8bit and load_in_4bit require an NVIDIA GPU, but torch finds no usable one. Use bf16, or a "
            "quantized GGUF version of the model with llama.cpp."
        )
    if options.bf16:
        dtype, why = torch.bfloat16, "bf16 is on"
    elif device:
        dtype, why = torch.float16, "the default on a GPU"
    else:
        dtype, why = torch.float32, "the fastest and most accurate on a CPU"
    more: dict[str, Any] = {"dtype": dtype}
    limited = options.parse_gpu_memory() or options.parse_cpu_memory()
    spread = limited or options.auto_devices or options.disk or quantized
    if device and spread:
        more["device_map"] = "auto"
        limits: dict[Any, str] = dict(enumerate(options.parse_gpu_memory()))
        if options.parse_cpu_memory():
            limits["cpu"] = options.parse_cpu_memory()
        if limits:
            more["max_memory"] = limits if "cpu" in limits else {**limits, "cpu": "999GiB"}
        if options.disk:
            more["offload_folder"] = str(Path(options.disk_cache_dir).absolute())
        notes.append("layers distributed by " + ("the given limits" if limits else "free memory"))
    elif device:
        more["device_map"] = {"": device if device != "cuda" else 0}
        notes.append(f"on the GPU ({device})")
    else:
        notes.append("on the CPU: " + ("the option cpu is on" if options.cpu else "torch finds no GPU"))
        if spread:
            notes.append("gpu_memory, cpu_memory, auto_devices and disk have no effect without a GPU")
    notes.append(f"weights in {str(dtype).removeprefix('torch.')}: {why}")
    if quantized:
        from transformers import BitsAndBytesConfig

        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=options.load_in_4bit,
            load_in_8bit=options.load_in_8bit and not options.load_in_4bit,
            bnb_4bit_compute_dtype=getattr(torch, options.compute_dtype),
            bnb_4bit_quant_type=options.quant_type,
            bnb_4bit_use_double_quant=options.use_double_quant,
            llm_int8_enable_fp32_cpu_offload=options.load_in_8bit,
        )
        notes.append("quantized while loading: 4 bits" if options.load_in_4bit else "quantized while loading: 8 bits")
    if options.choose_attention():
        more["attn_implementation"] = options.choose_attention()
    return DevicePlan(device == "cuda", dtype, more)


def _device() -> str | None:
    if torch.cuda.is_available():
        return "cuda"
    for name in ("xpu", "mps"):
        kind = getattr(torch, name, None) if name == "xpu" else torch.backends.mps
        if kind is not None and kind.is_available():
            return name
    return None


def open_model(
    read: TransformersFolder,
    options: TransformersOptions,
    plan: DevicePlan,
    n_ctx: int,
    notes: list[str],
    progress: Progress,
) -> Model:
    """Raises: ModelFileError, OutOfGpuMemory, LoadCancelled."""
    tokenizer = FolderTokenizer(read.path, read.number("vocab_size"))
    return _guarded(
        read, lambda: _model(read, options, load_weights(read, options, plan, notes, progress), tokenizer, n_ctx, notes)
    )


def open_for_training(
    read: TransformersFolder, options: TransformersOptions, plan: DevicePlan, progress: Progress
) -> Any:
    """The bare PreTrainedModel. Raises: ModelFileError, OutOfGpuMemory, LoadCancelled."""
    return _guarded(read, lambda: load_weights(read, options, plan, [], progress))


def load_weights(
    read: TransformersFolder, options: TransformersOptions, plan: DevicePlan, notes: list[str], progress: Progress
) -> Any:
    """The PreTrainedModel of a folder. Raises: ModelFileError, LoadCancelled, and whatever transformers raises."""
    with _quiet(), _progress(progress):
        config = AutoConfig.from_pretrained(
            read.path, trust_remote_code=options.trust_remote_code, local_files_only=True
        )
        _stretch(config, options, notes)
        model = AutoModelForCausalLM.from_pretrained(
            read.path,
            config=config,
            trust_remote_code=options.trust_remote_code,
            local_files_only=True,
            use_safetensors=not read.pickled,
            weights_only=True,
            **plan.more,
        )
    model.eval()
    return model


def _guarded(read: TransformersFolder, make: Callable[[], Made]) -> Made:
    """The result of `make`; an error is converted to a sentence, and all memory is freed."""
    try:
        return make()
    except (UserError, KeyboardInterrupt):
        release_memory()
        raise
    except Exception as error:
        log.warning("loading %s", read.path.name, exc_info=True)
        release_memory()
        raise explain_error(error) or wrap_load_error(read.path, error) from None


def _model(
    read: TransformersFolder,
    options: TransformersOptions,
    model: Any,
    tokenizer: FolderTokenizer,
    n_ctx: int,
    notes: list[str],
) -> HFModel:
    if fixed := rope.freeze_rope(model, n_ctx):
        notes.append(fixed)
    continuation = Continuation() if is_known_to_continue(model) else probe_continuation(model, tokenizer.encode, n_ctx)
    if continuation.note:
        notes.append(continuation.note)
    decoder = TransformersDecoder(model, n_ctx, tokenizer.n_vocab, continuation)
    # transformers' own generate uses the config's cache, and all that is known of that one
    as_configured = continuation.follow != 0 and continuation.way.layers == "config"
    repeats = as_configured and continuation.follow is None and can_copy_cache(model)
    adapters = PeftAdapters(model)
    memory = int(model.get_memory_footprint())
    backend = HFBackend(
        decoder,
        model,
        release_memory,
        search=BeamAndContrastiveSearch(
            model,
            tokenizer,
            tokenizer.end_ids,
            n_ctx,
            most_beams=MOST_BEAMS,
            hidden=repeats,
            caches=as_configured and cache_argument_name(model) != "state",  # transformers cannot reorder it for beams
        ),
        set_loras=adapters.set,
        explain=explain_error,
        unsupported={} if repeats else {"penalty_alpha": _NO_CONTRAST},
    )
    notes.append(f"transformers {transformers.__version__}, torch {torch.__version__}")
    notes.append(f"memory: {memory / 1e9:.1f} GB of weights; the cache grows with the text")
    return HFModel(read.path.name, "Transformers", backend, tokenizer, tokenizer.end_ids, options, notes, memory)


def _stretch(config: Any, options: TransformersOptions, notes: list[str]) -> None:
    """Apply the RoPE options to a config. Raises: ModelFileError if the model has no RoPE."""
    linear, alpha = options.compress_pos_emb, options.alpha_value
    if linear == 1 and alpha == 1 and not options.rope_freq_base:
        return
    given = getattr(config, "rope_parameters", None)
    if not isinstance(given, dict) or "rope_theta" not in given:
        raise ModelFileError(
            "The model",
            "alpha_value, rope_freq_base and compress_pos_emb cannot be used: it has no RoPE, or several kinds.",
        )
    changed = dict(given)
    if options.rope_freq_base > 0:
        changed["rope_theta"] = options.rope_freq_base
        notes.append(f"RoPE base {options.rope_freq_base:,.0f}, as requested")
    if linear != 1:
        changed.update(rope_type="linear", factor=linear)
        notes.append(f"positions divided by {linear:g}, as requested")
    elif alpha != 1 and not options.rope_freq_base:
        changed.update(rope_type="dynamic", factor=alpha)
        notes.append(f"NTK scaling by {alpha:g}, as requested")
    config.rope_parameters = changed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers print only important messages: we show the progress."""
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


@contextlib.contextmanager
def _progress(progress: Progress) -> Iterator[None]:
    """Pass transformers' progress on, and cancel on request. Versions without a hook load in one step."""
    if not progress(0.1, "loading weights"):
        raise LoadCancelled
    set_hook: Callable[[Any], Any] | None = getattr(hub_logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return
    before = set_hook(lambda _factory, args, kwargs: _Bar(progress, *args, **kwargs))
    try:
        yield
    finally:
        set_hook(before)


class _Bar:
    """Replaces a tqdm bar. Only the loading of weights is reported, not what is read around it."""

    def __init__(self, progress: Progress, iterable: Any = None, total: int | None = None, **_: Any) -> None:
        self._progress = progress
        self._iterable = iterable
        self._total = total or (len(iterable) if hasattr(iterable, "__len__") else 0)
        self._done = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            self.update()
            yield item

    def update(self, count: int = 1) -> None:
        """Raises: LoadCancelled."""
        self._done += count
        part = min(self._done / self._total, 1.0) if self._total else 0.5
        if not self._progress(0.1 + 0.85 * part, "loading weights"):
            raise LoadCancelled

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None


def explain_error(error: Exception) -> UserError | None:
    """Our error for one of torch's, if its meaning is known."""
    if isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error):
        release_memory()
        return OutOfGpuMemory()
    return None


def release_memory() -> None:
    """Return freed memory to the system and the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
