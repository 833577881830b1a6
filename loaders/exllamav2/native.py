"""exllamav2's weights, cache and generator behind one object that can be opened and closed.

The only module, with `dynamic_job`, `guidance_pair` and `adapters`, that imports exllamav2: it is imported when a model
loads. It must not know of requests or sampling.

Two things about exllamav2 0.3.2 that are not written in its documents (read in its source; tests/gpu/check.py checks
them if there is a GPU):
- without flash-attn its attention over torch's SDPA passes no causal mask in a text model (`_attn_torch` asks
  for the block-diagonal mask of vision models, which is None there), and none for padded batches. So SDPA is always
  switched off; its own matrix products take the mask into account, in pieces that keep the weights small.
- importing it limits torch to one thread for the whole program. That is undone, so that other loaders keep theirs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_threads = torch.get_num_threads()
import exllamav2  # noqa: E402
from exllamav2 import attn, generator  # noqa: E402

torch.set_num_threads(_threads)

from errors import InvalidInput, ModelFileError  # noqa: E402
from loaders.exllamav2 import rope  # noqa: E402
from loaders.exllamav2.folder import ExLlamaV2Folder, read_folder  # noqa: E402
from loaders.exllamav2.options import Bits, ExLlamaV2Options  # noqa: E402

#: The cache is divided into pages of this many tokens.
PAGE = 256
#: Rows of logits that one step may request; the buffers are created for it.
ROWS = 256
#: Tokens of one sequence in one step: the new one and the draft tokens.
_STEP = 8
#: The matrix products of attention without flash-attn hold at most this many weights per head.
_ATTENTION = 2048**2

_CACHES = {
    "f16": "ExLlamaV2Cache",
    "q8_0": "ExLlamaV2Cache_Q8",  # ExLlamaV2Cache_8bit is a different one, which the dynamic generator refuses
    "q6_0": "ExLlamaV2Cache_Q6",
    "q4_0": "ExLlamaV2Cache_Q4",
}

#: Called with the number of finished parts and their total; raises to cancel.
Step = Callable[[int, int], None]


@dataclass(eq=False)
class ExLlamaV2Weights:
    """A loaded model with its cache; `draft` is a second model for draft tokens."""

    config: Any
    model: Any
    cache: Any = None
    draft: ExLlamaV2Weights | None = None
    tokenizer: Any = None
    generator: Any = None
    paged: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def context_length(self) -> int:
        return int(self.config.max_seq_len)

    def close(self) -> None:
        """Free all memory. Calling it again does nothing."""
        if self.generator is not None:
            for pool in (self.generator.sampling_pool, self.generator.filter_pool):
                if pool is not None:
                    pool.shutdown()
        self.generator = self.cache = self.tokenizer = None
        if self.draft is not None:
            self.draft.close()
            self.draft = None
        if self.model is not None:
            self.model.unload()
            self.model = None
        gc.collect()  # jobs, pages and generator reference each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def list_gpus() -> list[tuple[int, int]]:
    """Free and total bytes of each GPU; empty without one."""
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append((int(free), int(total)))
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or exllamav2 means that a GPU is out of memory."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    words = ("out of memory", "Insufficient VRAM", "Insufficient space in device allocation")
    return isinstance(error, RuntimeError | AssertionError) and any(word in str(error) for word in words)


def load_weights(folder: ExLlamaV2Folder, options: ExLlamaV2Options, max_seq_len: int, step: Step) -> ExLlamaV2Weights:
    """Load the weights, and create the cache and the generator. Raises: UserError, or exllamav2's own errors."""
    drafted = options.count_draft_tokens()
    config = _config(folder.path, options, max_seq_len)
    weights = ExLlamaV2Weights(config, None)
    try:
        weights.paged = _paged(config, options, weights.notes)
        if not weights.paged:
            # chunks of the prompt that keep the attention weights small over the whole context
            config.max_input_len = max(PAGE, min(config.max_input_len, _ATTENTION // max_seq_len // PAGE * PAGE))
            if options.enable_tp:
                raise InvalidInput("enable_tp requires flash-attn. Install it, or turn enable_tp off.")
        tokens = max(count_pages(options.cache_size) * PAGE, max_seq_len)
        if options.draft_model.strip():
            weights.draft = _drafting(folder.path, options, weights, tokens, step)
        weights.model = exllamav2.ExLlamaV2(config)
        _read(weights, options, options.choose_cache_type(), tokens, options.parse_gpu_split(), step)
        weights.tokenizer = exllamav2.ExLlamaV2Tokenizer(config)
        weights.tokenizer.get_id_to_piece_list()  # takes a second: now, not in the first reply
        sequences = min(2 * options.parallel, config.max_input_len // _STEP) if weights.paged else 1
        weights.generator = generator.ExLlamaV2DynamicGenerator(
            model=weights.model,
            cache=weights.cache,
            tokenizer=weights.tokenizer,
            max_batch_size=sequences,
            max_seq_len=max_seq_len,
            max_chunk_size=config.max_input_len,
            max_q_size=_STEP,
            draft_model=weights.draft.model if weights.draft else None,
            draft_cache=weights.draft.cache if weights.draft else None,
            num_draft_tokens=drafted or options.draft_max,
            use_ngram_draft=options.ngram_draft,
            paged=weights.paged,
            filter_background_eval=False,
        )
    except BaseException:
        weights.close()
        raise
    return weights


def count_pages(tokens: int) -> int:
    """How many pages this many tokens need."""
    return (tokens + PAGE - 1) // PAGE


def make_cache(model: Any, kind: Bits, tokens: int, *, rows: int = 1, lazy: bool = False) -> Any:
    """A KV cache of this type for `rows` sequences of `tokens` tokens."""
    return getattr(exllamav2, _CACHES[kind])(model, batch_size=rows, max_seq_len=tokens, lazy=lazy)


def _config(path: Path, options: ExLlamaV2Options, max_seq_len: int) -> Any:
    config = exllamav2.ExLlamaV2Config()
    config.model_dir = str(path)
    try:
        config.prepare()
    except (AssertionError, ValueError, TypeError, KeyError) as error:
        raise ModelFileError(path.name, f"ExLlamaV2 cannot load it ({str(error).strip(' #')[:200]}).") from error
    rope.apply_rope_parameters(config, read_folder(path).config, path.name)
    config.max_seq_len = max_seq_len
    config.max_input_len = max(options.chunk_size // PAGE * PAGE, 2 * _STEP * options.parallel)
    config.max_input_len = min(count_pages(config.max_input_len) * PAGE, max_seq_len)
    config.max_attention_size = _ATTENTION
    config.max_output_len = ROWS
    config.no_sdpa = True
    config.no_flash_attn = config.no_flash_attn or options.no_flash_attn
    config.no_xformers = config.no_xformers or options.no_xformers
    if options.rope_freq_base > 0:
        config.rotary_embedding_base = options.rope_freq_base
    elif options.alpha_value != 1:
        config.scale_alpha_value = options.alpha_value
    if options.compress_pos_emb != 1:
        config.scale_pos_emb = options.compress_pos_emb
    if options.num_experts_per_token:
        config.num_experts_per_token = options.num_experts_per_token
    return config


def _paged(config: Any, options: ExLlamaV2Options, notes: list[str]) -> bool:
    """Whether requests can run together; the reason goes to the notes."""
    config.arch_compat_overrides(quiet=True)
    older = [i for i in range(torch.cuda.device_count()) if torch.cuda.get_device_capability(i) < (8, 0)]
    if older:
        config.no_flash_attn = True
    if attn.has_flash_attn_with_paged and not config.no_flash_attn:
        notes.append(f"up to {options.parallel} requests run together (flash-attn is installed)")
        return True
    if options.no_flash_attn:
        why = "no_flash_attn is on"
    elif older:
        why = "flash-attn requires a GPU of the RTX 30 series or newer"
    elif config.no_flash_attn and attn.has_flash_attn_with_paged:
        why = "this model does not support flash-attn"
    else:
        why = "flash-attn 2.5.7 or newer is not installed"
    notes.append(f"requests run one after another: {why}")
    return False


def _drafting(
    path: Path, options: ExLlamaV2Options, weights: ExLlamaV2Weights, tokens: int, step: Step
) -> ExLlamaV2Weights:
    """The draft model, on the same GPUs. Raises: InvalidInput, ModelFileError."""
    name = options.draft_model.strip()
    place = next((each for each in (path.parent / name, Path(name)) if each.is_dir()), None)
    if place is None:
        raise InvalidInput(
            f"Draft model folder not found: {name!r}. Set draft_model to a path, or to a folder next to this model."
        )
    plain = options.changed(
        alpha_value=options.draft_alpha_value, rope_freq_base=0, compress_pos_emb=1, num_experts_per_token=0
    )
    config = _config(place, plain, weights.context_length)
    config.no_flash_attn = weights.config.no_flash_attn
    config.max_input_len = weights.config.max_input_len
    if abs(config.vocab_size - weights.config.vocab_size) > 256:  # the same vocabulary may be padded differently
        raise InvalidInput(
            f"The draft model {place.name} has {config.vocab_size:,} token ids, but this model has "
            f"{weights.config.vocab_size:,}. Choose a draft model of the same family."
        )
    draft = ExLlamaV2Weights(config, exllamav2.ExLlamaV2(config))
    try:
        _read(draft, plain.changed(enable_tp=False), options.draft_cache_type, tokens, [], step)
    except BaseException:
        draft.close()
        raise
    weights.notes.append(f"{place.name} drafts {options.draft_max} tokens ahead")
    return draft


def _read(
    weights: ExLlamaV2Weights, options: ExLlamaV2Options, kind: Bits, tokens: int, split: Sequence[float], step: Step
) -> None:
    """Load weights onto the GPUs and create the cache."""
    model = weights.model
    if options.enable_tp:
        model.load_tp(
            gpu_split=list(split) or None, callback=step,
            expect_cache_tokens=tokens, expect_cache_base=getattr(exllamav2, _CACHES[kind]),
        )  # fmt: skip
        weights.cache = exllamav2.ExLlamaV2Cache_TP(model, base=getattr(exllamav2, _CACHES[kind]), max_seq_len=tokens)
        weights.notes.append("every layer is split across all GPUs (enable_tp is on)")
    elif split:
        model.load(gpu_split=list(split), callback=step)
        weights.cache = make_cache(model, kind, tokens)
        weights.notes.append(f"split across the GPUs as requested: {', '.join(f'{size:g} GB' for size in split)}")
    else:
        weights.cache = make_cache(model, kind, tokens, lazy=True)
        model.load_autosplit(weights.cache, callback=step)
