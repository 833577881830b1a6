"""The load options of the llama.cpp loaders, each declared once. Knows names and bounds, not how they are honoured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from errors import InvalidInput
from loaders.knobs import knob
from loaders.params import LoadOptions, Text

_F16 = BeforeValidator(lambda value: "f16" if value == "fp16" else value)  # the original's spelling
Kept = Literal["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
CacheType = Annotated[Kept, _F16]
PartType = Annotated[Literal["same", Kept], _F16]


class GGUFOptions(LoadOptions):
    """How a GGUF is brought into memory, whatever decodes it."""

    n_gpu_layers: int = knob(
        -1, ge=-1, range=(-1, 256, 1), group="main", aliases=("gpu_layers",),
        help="How many layers go to the GPU, the output layer first; the rest stays on the CPU. -1: as many as fit.",
    )  # fmt: skip
    n_cpu_moe: int = knob(
        -1, ge=-1, le=512, range=(-1, 128, 1), group="main",
        help="For mixtures of experts: of how many first layers the experts stay in main memory, so that attention and "
        "KV cache of all layers fit on a small GPU. -1 is as many as needed, 0 none.",
    )  # fmt: skip
    cpu_moe: bool = knob(False, group="memory", help="Keep the experts of all layers in main memory.")
    n_ctx: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="main", aliases=("ctx_size", "max_seq_len"),
        help="Context in tokens for prompt and reply together. 0 is the model's own, at most 8192.",
    )  # fmt: skip
    cache_type: CacheType = knob(
        "f16", group="main",
        help="How exactly the KV cache is kept. Of f16's memory q8_0 takes 53 %, q5_1 38 %, q5_0 34 %, q4_1 31 %, q4_0 "
        "and iq4_nl 28 %; with less than q8_0 long texts suffer. Values that are not f16 need flash_attn.",
    )  # fmt: skip
    cache_type_k: PartType = knob(
        "same",
        group="memory",
        help="The type of the cache's keys alone; coarse keys cost more accuracy than values.",
    )
    cache_type_v: PartType = knob("same", group="memory", help="The type of the cache's values alone.")
    swa_full: bool = knob(
        True, group="memory",
        help="Give layers with a sliding window (Gemma, gpt-oss) as large a cache as the others.",
        help_off="Layers with a sliding window (Gemma, gpt-oss) keep only what they look back to: several times less "
        "memory for a long context, but going back in a chat reads it again from the start.",
    )  # fmt: skip
    flash_attn: Literal["auto", "on", "off"] = knob(
        "auto", group="speed", help="Flash attention. auto takes what is faster here; on needs less memory."
    )
    tensor_split: Text = knob(
        "", group="memory",
        help="Shares of the model for each of several GPUs, with commas between: 18,17. Empty: by their free memory.",
    )  # fmt: skip
    split_mode: Literal["layer", "none", "row"] = knob(
        "layer", group="memory",
        help="Several GPUs: layer gives each whole layers, none puts all on main_gpu, row cuts every matrix over all "
        "(CUDA's and SYCL's alone).",
    )  # fmt: skip
    row_split: bool = knob(False, group="memory", help="The older spelling of split_mode row.")
    main_gpu: int = knob(
        0, ge=0, le=63, range=(0, 7, 1), group="memory", help="With split_mode none: the GPU that takes all, from 0."
    )
    devices: Text = knob(
        "", group="memory", aliases=("device",),
        help="The GPUs to use, by llama.cpp's names with commas between: CUDA0,CUDA1. Empty is all, none is none.",
    )  # fmt: skip
    fit_target: Text = knob(
        "", group="memory",
        help="MiB to keep free on each GPU where layers are chosen by what fits, with commas between; the last one "
        "holds for all further GPUs. Empty: 572, or an eighth of a smaller GPU, until loads have shown what they need.",
    )  # fmt: skip
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
    n_ubatch: int = knob(
        512, ge=1, le=8192, range=(32, 2048, 32), group="speed", aliases=("ubatch_size",),
        help="How many of them go through the layers in one piece: more is faster on a GPU, and takes larger buffers.",
    )  # fmt: skip
    threads: int = knob(
        0, ge=0, le=512, range=(0, 64, 1), group="speed",
        help="CPU threads for generating. 0 is the number that is quickest for this model, measured when it is loaded.",
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

    def split(self) -> tuple[float, ...]:
        """`tensor_split` as numbers. Raises: InvalidInput."""
        return _numbers("tensor_split", self.tensor_split, "18,17")

    def targets(self) -> tuple[int, ...]:
        """`fit_target` in bytes. Raises: InvalidInput."""
        found = _numbers("fit_target", self.fit_target, "1024,512")
        if not all(0 <= size < 2**24 for size in found):
            raise InvalidInput(f"fit_target is in MiB, from 0 to 16 million, not {self.fit_target!r}.")
        return tuple(round(size * 2**20) for size in found)

    def cache_types(self) -> tuple[str, str]:
        """The types of the cache's keys and values."""
        return (
            self.cache_type if self.cache_type_k == "same" else self.cache_type_k,
            self.cache_type if self.cache_type_v == "same" else self.cache_type_v,
        )


def _numbers(name: str, value: str, example: str) -> tuple[float, ...]:
    """Raises: InvalidInput."""
    try:
        found = tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError:
        raise InvalidInput(f"{name} is a list of numbers such as {example}, not {value!r}.") from None
    return found


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
