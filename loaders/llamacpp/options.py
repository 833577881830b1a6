"""The load options of the llama.cpp loaders, each declared once. It knows names and bounds, not their effects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

from errors import InvalidInput
from loaders.knobs import knob
from loaders.list_parsing import parse_numbers
from loaders.llamacpp.rpc import parse_addresses
from loaders.nearest_value import Fallbacks
from loaders.params import LoadOptions, Text
from loaders.shared_options import (
    ALPHA_VALUE,
    COMPRESS_POS_EMB,
    CPU,
    DRAFT_MODEL,
    LARGEST_DEFAULT_CONTEXT,
    LOGITS_ALL,
    NO_REMOTE_CODE,
    NO_USE_FAST,
    ROPE_FREQ_BASE,
)

_F16 = BeforeValidator(lambda value: "f16" if value == "fp16" else value)  # the original's spelling
CacheTypeName = Literal["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
CacheType = Annotated[CacheTypeName, _F16]
CacheTypeOrSame = Annotated[Literal["same", CacheTypeName], _F16]


def _one_search(value: object) -> object:
    """llama.cpp and the original distinguish several searches, of which they take a list; here there is one. With
    draft-simple, they use a draft model, which here is in use when it is set.
    """
    words = [word.strip().lower() for word in value.split(",")] if isinstance(value, str) else []
    if not words or not all(re.fullmatch(r"none|ngram(-[\w-]+)?|draft-simple", word) for word in words):
        return value
    return "ngram" if any(word.startswith("ngram") for word in words) else "none"


def _layers(value: object) -> object:
    """llama.cpp's words for numbers of layers; no model has as many as ALL_LAYERS."""
    words = {"auto": -1, "all": ALL_LAYERS}
    return words.get(value.strip().lower(), value) if isinstance(value, str) else value


ALL_LAYERS = 999
_PARALLEL = 4  # requests at a time, unless another number is wanted
#: -1 is "as many as seems right" for llama.cpp.
Parallel = Annotated[int, BeforeValidator(lambda value: _PARALLEL if str(value).strip() in ("-1", "auto") else value)]
Numa = Annotated[
    Literal["off", "on", "isolate", "numactl"], BeforeValidator(lambda value: "on" if value == "distribute" else value)
]
SpecType = Annotated[Literal["none", "ngram"], BeforeValidator(_one_search)]
Layers = Annotated[int, BeforeValidator(_layers)]


class GGUFOptions(LoadOptions):
    """How a GGUF is loaded, for any decoder."""

    #: Added to the name under which measured speeds are stored, for loaders that decode in another way.
    speed_suffix: ClassVar[str] = ""

    FALLBACKS: ClassVar[Fallbacks] = {"split_mode": {"tensor": "layer"}}

    n_gpu_layers: Layers = knob(
        -1, ge=-1, range=(-1, 256, 1), group="main", aliases=("gpu_layers",),
        help="Number of layers on the GPU, the output layer first; the rest runs on the CPU. -1 is as many as fit.",
    )  # fmt: skip
    n_cpu_moe: int = knob(
        -1, ge=-1, le=512, range=(-1, 128, 1), group="main",
        help="Mixture-of-experts models: number of layers, from the first, whose experts stay in main memory, so that "
        "attention and KV cache of all layers fit on a small GPU. -1 is as many as needed, 0 is none.",
    )  # fmt: skip
    cpu_moe: bool = knob(False, group="memory", help="Keep the experts of all layers in main memory.")
    n_ctx: int = knob(
        0, ge=0, le=2**31 - 1, range=(0, 200_000, 256), group="main", aliases=("ctx_size", "max_seq_len"),
        help="Context length in tokens, for prompt and reply together. 0 is the model's own, at most "
        f"{LARGEST_DEFAULT_CONTEXT}.",
    )  # fmt: skip
    cache_type: CacheType = knob(
        "f16", group="main",
        help="Precision of the KV cache. Compared with f16, q8_0 takes 53 % of the memory, q5_1 38 %, q5_0 34 %, q4_1 "
        "31 %, q4_0 and iq4_nl 28 %; below q8_0, long texts suffer. Quantized values need flash_attn.",
    )  # fmt: skip
    cache_type_k: CacheTypeOrSame = knob(
        "same",
        group="memory",
        help="Precision of the cache's keys only. Low precision costs more accuracy in keys than in values.",
    )
    cache_type_v: CacheTypeOrSame = knob("same", group="memory", help="Precision of the cache's values only.")
    swa_full: bool = knob(
        True, group="memory",
        help="Give layers with sliding-window attention (Gemma, gpt-oss) a full-size cache.",
        help_off="Keep only the window in the cache of layers with sliding-window attention (Gemma, gpt-oss): several "
        "times less memory for a long context, but in a chat only checkpoints lead back (ctx_checkpoints).",
    )  # fmt: skip
    flash_attn: Literal["auto", "on", "off"] = knob(
        "auto", group="speed", help="Flash attention. auto uses what is faster on this computer; on needs less memory."
    )
    tensor_split: Text = knob(
        "", group="memory",
        help="Share of the model on each GPU, separated by commas: 18,17. Empty is by free memory.",
    )  # fmt: skip
    split_mode: Literal["layer", "none", "row"] = knob(
        "layer", group="memory",
        help="Several GPUs: layer distributes whole layers, none uses main_gpu only, row splits each matrix over all "
        "GPUs (CUDA and SYCL only).",
    )  # fmt: skip
    row_split: bool = knob(False, group="memory", help="Old name for split_mode row.")
    main_gpu: int = knob(
        0, ge=0, le=63, range=(0, 7, 1), group="memory", help="With split_mode none: the GPU to use, counted from 0."
    )
    devices: Text = knob(
        "", group="memory", aliases=("device",),
        help="GPUs to use, by llama.cpp's names, separated by commas: CUDA0,CUDA1. Empty is all, none is none.",
    )  # fmt: skip
    rpc: Text = knob(
        "", group="memory",
        help="Other machines that lend their GPUs or memory, separated by commas: 192.168.0.6:50052. Each of them runs "
        "python -m loaders.llamacpp.rpc_node. Without keys and encryption: for trusted networks only.",
    )  # fmt: skip
    fit_target: Text = knob(
        "", group="memory",
        help="MiB to keep free on each GPU when layers are fitted automatically, separated by commas; the last value "
        "applies to all further GPUs. Empty is 572, or an eighth of a smaller GPU, until earlier loads have shown "
        "what is needed.",
    )  # fmt: skip
    no_mmap: bool = knob(
        False, group="memory",
        help="Read the whole file into memory instead of mapping it: slower to load, steadier on slow disks.",
    )  # fmt: skip
    mlock: bool = knob(False, group="memory", help="Lock the model in memory, so that it is never swapped out.")
    no_offload_kqv: bool = knob(
        False, group="memory", aliases=("no_kv_offload",),
        help="Keep the KV cache in main memory: saves GPU memory, costs speed.",
    )  # fmt: skip
    cpu: bool = CPU
    n_batch: int = knob(
        512, ge=1, le=8192, range=(1, 2048, 1), group="speed", aliases=("batch_size",),
        help="Maximum number of prompt tokens processed at once.",
    )  # fmt: skip
    n_ubatch: int = knob(
        512, ge=1, le=8192, range=(32, 2048, 32), group="speed", aliases=("ubatch_size",),
        help="Number of these tokens computed in one step: more is faster on a GPU, but needs larger buffers.",
    )  # fmt: skip
    threads: int = knob(
        0, ge=0, le=512, range=(0, 64, 1), group="speed",
        help="CPU threads for generation; fewer compute while other programs use the cores. 0 is the fastest number, "
        "measured when the model is loaded.",
    )  # fmt: skip
    threads_batch: int = knob(
        0,
        ge=0,
        le=512,
        range=(0, 64, 1),
        group="speed",
        help="CPU threads for prompt processing. 0 is the same as threads.",
    )
    numa: Numa = knob(
        "off", group="speed",
        help="For computers with several memory nodes (NUMA). on distributes the threads over all nodes, isolate keeps "
        "them on the node where they start, numactl follows numactl's own settings.",
    )  # fmt: skip
    alpha_value: float = ALPHA_VALUE
    rope_freq_base: float = ROPE_FREQ_BASE
    compress_pos_emb: float = COMPRESS_POS_EMB

    def compute_rope_base(self) -> float:
        """The RoPE base to use, 0 for the model's own."""
        if self.rope_freq_base > 0:
            return self.rope_freq_base
        return 10_000.0 * float(self.alpha_value ** (64 / 63)) if self.alpha_value > 1 else 0.0

    def parse_tensor_split(self) -> tuple[float, ...]:
        """`tensor_split` as numbers, the largest 1, because llama.cpp's are float32. Raises: InvalidInput."""
        shares = tuple(parse_numbers("tensor_split", self.tensor_split, unit="numbers", example="18,17"))
        largest = max(map(abs, shares), default=0.0)
        if not largest or not math.isfinite(largest):
            return shares
        return tuple(share / largest if share < 0 or share / largest >= _SMALLEST_SHARE else 0.0 for share in shares)

    def parse_rpc(self) -> tuple[str, ...]:
        """The addresses of other machines, as host:port. Raises: InvalidInput."""
        return parse_addresses(self.rpc)

    def parse_fit_target(self) -> tuple[int, ...]:
        """`fit_target` in bytes. Raises: InvalidInput."""
        sizes = parse_numbers("fit_target", self.fit_target, unit="numbers", example="1024,512")
        if not all(0 <= size < 2**24 for size in sizes):
            raise InvalidInput(f"fit_target is in MiB and must be from 0 to 16 million (got {self.fit_target!r}).")
        return tuple(round(size * 2**20) for size in sizes)

    def choose_cache_types(self) -> tuple[str, str]:
        """The types of the cache's keys and values."""
        return (
            self.cache_type if self.cache_type_k == "same" else self.cache_type_k,
            self.cache_type if self.cache_type_v == "same" else self.cache_type_v,
        )


_SMALLEST_SHARE = 1e-6  # smaller than a layer of any model


class LlamaCppOptions(GGUFOptions):
    """What the native loader adds: several requests at once, and a cache of inactive chats."""

    parallel: Parallel = knob(
        _PARALLEL, ge=1, le=64, range=(1, 16, 1), group="main",
        help="Number of requests decoded at the same time; further requests wait in the queue.",
    )  # fmt: skip
    separate_contexts: bool = knob(
        False, group="memory",
        help="Give each request its own context of n_ctx tokens, for parallel times the memory: a seed then gives the "
        "same text regardless of other requests. Off: all requests share one context.",
    )  # fmt: skip
    cache_capacity: Text = knob(
        "2GiB", group="memory",
        help="Main memory for caching inactive chats, so that they need not be processed again. 0 is off.",
    )  # fmt: skip
    kv_disk: Text = knob(
        "2GiB", group="memory",
        help="Disk space for the states of the page's chats, so that they open at once after a restart or a change of "
        "models; the least recently used are deleted. 0 is off.",
    )  # fmt: skip
    kv_disk_api: bool = knob(
        False, group="memory", help="With kv_disk: also keep the states of requests to the API on disk."
    )
    ctx_checkpoints: int = knob(
        32, ge=0, le=1024, range=(0, 128, 1), group="memory", aliases=("swa_checkpoints",),
        help="Models with recurrent layers or a sliding window (Qwen3.5, Mamba, Gemma, gpt-oss): number of earlier "
        "states to keep, so that regenerating, editing and dropped reasoning only cost what is new. They use up to "
        "half of cache_capacity. 0 is off.",
    )  # fmt: skip
    context_shift: bool = knob(
        False, group="memory", aliases=("streaming_llm",),
        help="When the context is full, drop its older half and continue instead of ending the reply. When a chat's "
        "oldest messages are left out, keep what was computed after them.",
    )  # fmt: skip
    keep: int = knob(
        0, ge=0, range=(0, 8192, 16), group="memory",
        help="With context_shift: number of tokens at the start, such as the system prompt, that are never dropped.",
    )  # fmt: skip
    FALLBACKS: ClassVar[Fallbacks] = {
        **GGUFOptions.FALLBACKS,
        "spec_type": {r"(?:[\w-]+,\s*)*draft-(?!simple\b)[\w-]+(?:,\s*[\w-]+)*": "ngram"},
    }
    spec_type: SpecType = knob(
        "none", group="speed",
        help="Speculative decoding: ngram drafts tokens from earlier text that ended like the current one, and checks "
        "them in one step. The text stays the same; where drafts do not pay, none are made. With draft_model both are "
        "used, whichever gains more.",
    )  # fmt: skip
    NEEDS: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("gpu_layers_draft", "device_draft", "ctx_size_draft"), "draft_model"
    )
    draft_model: Text = DRAFT_MODEL
    spec_draft_max: int = knob(
        16, ge=1, le=48, range=(1, 48, 1), group="speed",
        aliases=("draft_max", "spec_draft_n_max"),
        help="With draft_model: the most tokens to draft in one step.",
    )  # fmt: skip
    gpu_layers_draft: Layers = knob(
        -1, ge=-1, range=(-1, 256, 1), group="memory", aliases=("n_gpu_layers_draft", "spec_draft_ngl"),
        help="Number of layers of draft_model on the GPU. -1 is as many as fit.",
    )  # fmt: skip
    device_draft: Text = knob(
        "", group="memory", aliases=("spec_draft_device",),
        help="GPUs for draft_model, by llama.cpp's names, separated by commas. Empty is those of the model, none is "
        "none.",
    )  # fmt: skip
    ctx_size_draft: int = knob(
        0, ge=0, le=2**31 - 1, range=(0, 200_000, 256), group="memory",
        help="Context length of draft_model in tokens; longer texts are not drafted. 0 is as for the model.",
    )  # fmt: skip
    spec_ngram_size_n: int = knob(
        2, ge=1, le=24, range=(1, 24, 1), group="speed",
        help="With drafts from earlier text: the fewest tokens that must be equal to earlier ones.",
    )  # fmt: skip
    spec_ngram_size_m: int = knob(
        48, ge=0, le=48, range=(0, 48, 1), group="speed",
        help="With drafts from earlier text: the most tokens to draft in one step. 0 is spec_draft_max.",
    )  # fmt: skip
    spec_ngram_min_hits: int = knob(
        1, ge=1, le=100, range=(1, 10, 1), group="speed",
        help="With drafts from earlier text: how often these tokens must have appeared before.",
    )  # fmt: skip
    logits_all: bool = LOGITS_ALL

    @property
    def most_repeated(self) -> int:
        """The most tokens to draft from earlier text in one step."""
        return self.spec_ngram_size_m or self.spec_draft_max


class LlamaCppHFOptions(GGUFOptions):
    """The additions of llamacpp_HF."""

    speed_suffix: ClassVar[str] = " llamacpp_HF"

    cfg_cache: bool = knob(
        False, group="memory",
        help="Reserve a second context of n_ctx tokens for the negative prompt. Off: both prompts share n_ctx.",
    )  # fmt: skip
    logits_all: bool = LOGITS_ALL
    trust_remote_code: bool = NO_REMOTE_CODE
    no_use_fast: bool = NO_USE_FAST
