"""The load options of the llama.cpp loaders, each declared once. Knows names and bounds, not how they are honoured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from errors import InvalidInput
from loaders.knobs import knob
from loaders.params import LoadOptions, Text

CacheType = Annotated[
    Literal["f16", "q8_0", "q4_0"],
    BeforeValidator(lambda value: "f16" if value == "fp16" else value),  # the original's spelling
]


class GGUFOptions(LoadOptions):
    """How a GGUF is brought into memory, whatever decodes it."""

    n_gpu_layers: int = knob(
        -1, ge=-1, range=(-1, 256, 1), group="main", aliases=("gpu_layers",),
        help="How many layers go to the GPU; the rest stays on the CPU. -1 takes as many as fit.",
    )  # fmt: skip
    n_ctx: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="main", aliases=("ctx_size", "max_seq_len"),
        help="Context in tokens for prompt and reply together. 0 is the model's own, at most 8192.",
    )  # fmt: skip
    cache_type: CacheType = knob(
        "f16", group="main", aliases=("cache_type_k",),
        help="How exactly the KV cache is kept: q8_0 takes half the memory of f16, q4_0 a quarter.",
    )  # fmt: skip
    flash_attn: Literal["auto", "on", "off"] = knob(
        "auto", group="speed", help="Flash attention. auto takes what is faster here; on needs less memory."
    )
    tensor_split: Text = knob(
        "", group="memory", help="Shares of the model for each of several GPUs, with commas between: 18,17"
    )
    no_mmap: bool = knob(
        False, group="memory",
        help="Read the whole file into memory instead of mapping it: slower to load, steadier on slow disks.",
    )  # fmt: skip
    mlock: bool = knob(False, group="memory", help="Ask the system never to move the model out of memory.")
    no_offload_kqv: bool = knob(
        False, group="memory", aliases=("no_kv_offload",),
        help="Keep the KV cache in the CPU's memory: saves GPU memory, costs speed.",
    )  # fmt: skip
    cpu: bool = knob(False, group="memory", help="Use no GPU at all, even where there is one.")
    n_batch: int = knob(
        512, ge=1, le=8192, range=(1, 2048, 1), group="speed", aliases=("batch_size",),
        help="The most prompt tokens that are processed at once.",
    )  # fmt: skip
    threads: int = knob(
        0, ge=0, le=512, range=(0, 64, 1), group="speed",
        help="CPU threads for generating. 0 is one for each physical core; without hyper-threading one stays free.",
    )  # fmt: skip
    threads_batch: int = knob(
        0,
        ge=0,
        le=512,
        range=(0, 64, 1),
        group="speed",
        help="CPU threads for prompts. 0 is as many as for generating.",
    )
    numa: bool = knob(False, group="speed", help="Spread the work for machines with several memory nodes.")
    alpha_value: float = knob(
        1.0, ge=1, range=(1, 8, 0.05), group="rope",
        help="NTK scaling: sets the RoPE base to 10000 * alpha^(64/63). 1 is off; 1.75 for 1.5 times the context.",
    )  # fmt: skip
    rope_freq_base: float = knob(
        0, ge=0, range=(0, 1_000_000, 1000), group="rope",
        help="The RoPE base itself. Above 0 it wins over alpha_value; 0 is the model's own.",
    )  # fmt: skip
    compress_pos_emb: float = knob(
        1.0, ge=1, range=(1, 8, 0.5), group="rope",
        help="Linear scaling: divides the positions by this. Set it to the factor that the model was trained with.",
    )  # fmt: skip

    def rope_base(self) -> float:
        """The RoPE base to use, 0 for the model's own."""
        if self.rope_freq_base > 0:
            return self.rope_freq_base
        return 10_000.0 * float(self.alpha_value ** (64 / 63)) if self.alpha_value > 1 else 0.0

    def split(self) -> list[float]:
        """`tensor_split` as numbers. Raises: InvalidInput."""
        try:
            return [float(part) for part in self.tensor_split.split(",") if part.strip()]
        except ValueError:
            raise InvalidInput(f"tensor_split is a list of numbers such as 18,17, not {self.tensor_split!r}.") from None


class LlamaCppOptions(GGUFOptions):
    """What the native loader adds: many requests at once, and chats that wait in memory."""

    parallel: int = knob(
        4, ge=1, le=64, range=(1, 16, 1), group="main",
        help="How many requests are decoded together; further ones wait in the queue.",
    )  # fmt: skip
    separate_contexts: bool = knob(
        False, group="memory",
        help="Give each request n_ctx tokens of its own, at parallel times the memory: the same seed then gives the "
        "same text whatever runs beside it. Off: all share one context.",
    )  # fmt: skip
    cache_capacity: Text = knob(
        "2GiB", group="memory",
        help="Main memory for chats that are not running, so that a return to one need not process it again. 0 is off.",
    )  # fmt: skip
    context_shift: bool = knob(
        False, group="memory", aliases=("streaming_llm",),
        help="When the context is full, drop its older half and go on, instead of ending the reply.",
    )  # fmt: skip
    keep: int = knob(
        0, ge=0, range=(0, 8192, 16), group="memory",
        help="With context_shift: how many of the first tokens (the system prompt, say) are never dropped.",
    )  # fmt: skip
    logits_all: bool = knob(
        False, group="other",
        help="Accepted for old settings; not needed: log-probabilities are computed where they are asked for.",
    )  # fmt: skip


class LlamaCppHFOptions(GGUFOptions):
    """What llamacpp_HF adds."""

    cfg_cache: bool = knob(
        False, group="memory",
        help="Room for a second n_ctx tokens, for the negative prompt. Off: both prompts share n_ctx.",
    )  # fmt: skip
    logits_all: bool = knob(
        False, group="other",
        help="Accepted for old settings; not needed: log-probabilities are computed where they are asked for.",
    )  # fmt: skip
    trust_remote_code: bool = knob(
        False, group="other", help="Accepted for old settings: nothing of this loader runs a folder's code."
    )
    no_use_fast: bool = knob(
        False, group="other", help="Accepted for old settings: the tokenizer is always the fast one."
    )
