"""The load options of the ExLlamaV2 loaders, each declared once. It knows names and bounds, not their effects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from errors import InvalidInput
from loaders.knobs import knob
from loaders.list_parsing import parse_numbers
from loaders.params import LoadOptions, Text
from loaders.shared_options import (
    ALPHA_VALUE,
    COMPRESS_POS_EMB,
    DRAFT_MODEL,
    MAX_SEQ_LEN,
    NO_REMOTE_CODE,
    NO_USE_FAST,
    ROPE_FREQ_BASE,
)

Bits = Literal["f16", "q8_0", "q6_0", "q4_0"]

_SPELLINGS: dict[str, Bits] = {
    "16": "f16", "fp16": "f16",
    "8": "q8_0", "q8": "q8_0", "fp8": "q8_0", "8bit": "q8_0",
    "6": "q6_0", "q6": "q6_0", "6bit": "q6_0",
    "4": "q4_0", "q4": "q4_0", "4bit": "q4_0",
}  # fmt: skip


def _bits(value: Any) -> Any:
    return _SPELLINGS.get(str(value).strip().lower(), value)


CacheBits = Annotated[Bits, BeforeValidator(_bits)]


class GpuOptions(LoadOptions):
    """How a folder is loaded onto GPUs, for any decoder."""

    max_seq_len: int = MAX_SEQ_LEN
    cache_type: CacheBits = knob(
        "f16", group="main",
        help="Precision of the KV cache: 8 bits take half the memory of 16, 4 bits a quarter.",
    )  # fmt: skip
    gpu_split: Text = knob(
        "", group="main",
        help="Gigabytes of weights on each GPU, separated by commas: 20,7,7. Empty fills one GPU after another.",
    )  # fmt: skip
    autosplit: bool = knob(
        False, group="memory",
        help="Fill one GPU after another by free memory, even if gpu_split is set.",
    )  # fmt: skip
    cache_8bit: bool = knob(False, group="memory", help="Old name for cache_type q8_0.")
    cache_4bit: bool = knob(False, group="memory", help="Old name for cache_type q4_0.")
    enable_tp: bool = knob(
        False, group="memory",
        help="Tensor parallelism: split each layer over all GPUs. Needs flash-attn; LoRA adapters have no effect.",
    )  # fmt: skip
    chunk_size: int = knob(
        2048, ge=256, le=16384, range=(256, 8192, 256), group="speed",
        help="Maximum number of prompt tokens processed at once, in steps of 256.",
    )  # fmt: skip
    no_flash_attn: bool = knob(
        False,
        group="speed",
        help="Do not use flash-attn, even if it is installed. Requests then run one after another.",
    )
    no_xformers: bool = knob(False, group="speed", help="Do not use xformers, even if it is installed.")
    alpha_value: float = ALPHA_VALUE
    rope_freq_base: float = ROPE_FREQ_BASE
    compress_pos_emb: float = COMPRESS_POS_EMB
    num_experts_per_token: int = knob(
        0, ge=0, range=(0, 16, 1), group="other",
        help="Mixture-of-experts models: number of experts per token. 0 is the model's own number.",
    )  # fmt: skip

    def choose_cache_type(self) -> Bits:
        """The cache's type, including the older switches. Raises: InvalidInput if they contradict each other."""
        types = [kind for kind, on in (("q8_0", self.cache_8bit), ("q4_0", self.cache_4bit)) if on]
        if len(types) == 2 or (types and self.cache_type not in ("f16", types[0])):
            raise InvalidInput("cache_type, cache_8bit and cache_4bit contradict each other. Set only cache_type.")
        return "q8_0" if self.cache_8bit else "q4_0" if self.cache_4bit else self.cache_type

    def parse_gpu_split(self) -> list[float]:
        """`gpu_split` in gigabytes per GPU; empty for an automatic split. Raises: InvalidInput."""
        if self.autosplit or self.gpu_split.strip().lower() in ("", "auto"):
            return []
        sizes = parse_numbers("gpu_split", self.gpu_split, unit="gigabytes", example="20,7,7")
        if not all(0 <= size < 1e6 for size in sizes) or not any(sizes):
            raise InvalidInput(f"gpu_split must be a list of gigabytes such as 20,7,7 (got {self.gpu_split!r}).")
        return sizes


class ExLlamaV2Options(GpuOptions):
    """What the native loader adds: several requests at once, and speculative decoding."""

    parallel: int = knob(
        4, ge=1, le=64, range=(1, 16, 1), group="main",
        help="Number of requests decoded at the same time, with flash-attn; without it, requests run one after "
        "another.",
    )  # fmt: skip
    cache_size: int = knob(
        0, ge=0, range=(0, 1_000_000, 1024), group="memory",
        help="Cache size in tokens, shared by all running requests. 0 is max_seq_len; more lets long requests run "
        "together.",
    )  # fmt: skip
    draft_model: Text = DRAFT_MODEL
    draft_max: int = knob(
        4, ge=1, le=7, range=(1, 7, 1), group="speed", aliases=("num_draft_tokens",),
        help="Number of tokens that draft_model or ngram_draft drafts ahead.",
    )  # fmt: skip
    draft_cache_type: CacheBits = knob("f16", group="speed", help="KV cache type of the draft model, as in cache_type.")
    draft_alpha_value: float = knob(
        1.0, ge=1, range=(1, 8, 0.05), group="speed",
        help="NTK scaling of the draft model, if its context is shorter than max_seq_len. 1 is off.",
    )  # fmt: skip
    ngram_draft: bool = knob(
        False, group="speed",
        help="Draft from repetitions in the text: faster when a reply quotes its prompt. Not with draft_model.",
    )  # fmt: skip

    def count_draft_tokens(self) -> int:
        """How many tokens are drafted ahead; 0 without speculative decoding. Raises: InvalidInput."""
        if self.draft_model.strip() and self.ngram_draft:
            raise InvalidInput("draft_model and ngram_draft cannot be combined. Choose one.")
        return self.draft_max if self.draft_model.strip() or self.ngram_draft else 0


class ExLlamaV2HFOptions(GpuOptions):
    """The additions of ExLlamav2_HF."""

    cfg_cache: bool = knob(
        False, group="memory",
        help="Create the second cache, for the negative prompt, while loading and not at the first request that needs "
        "it.",
    )  # fmt: skip
    trust_remote_code: bool = NO_REMOTE_CODE
    no_use_fast: bool = NO_USE_FAST

    def to_native(self) -> ExLlamaV2Options:
        """The same for the native loader, one request at a time."""
        shared = {name: getattr(self, name) for name in GpuOptions.knobs()}
        return ExLlamaV2Options.parse({**shared, "parallel": 1})
