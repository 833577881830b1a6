"""The load options of the Transformers loader, each declared once. Knows names and bounds, not how they act."""

from __future__ import annotations

import re
from typing import Literal

from errors import InvalidInput
from loaders.knobs import knob
from loaders.params import LoadOptions, Text


class TransformersOptions(LoadOptions):
    """How a Hugging Face folder is brought into memory."""

    max_seq_len: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="main", aliases=("n_ctx", "ctx_size"),
        help="Context in tokens for prompt and reply together. 0 is the model's own, at most 8192.",
    )  # fmt: skip
    bf16: bool = knob(
        False, group="main",
        help="Weights in bfloat16. Off: float16 on a graphics card, float32 on the CPU.",
    )  # fmt: skip
    load_in_8bit: bool = knob(
        False, group="main", help="Weights in 8 bits through bitsandbytes. Needs a CUDA graphics card."
    )
    load_in_4bit: bool = knob(
        False, group="main", help="Weights in 4 bits through bitsandbytes. Needs a CUDA graphics card."
    )
    cpu: bool = knob(False, group="memory", help="Use no GPU at all, even where there is one.")
    gpu_memory: Text = knob(
        "", group="memory",
        help="The most memory for weights on each GPU, with commas between: 10,5 (GiB) or 3500MiB. Empty: all of it.",
    )  # fmt: skip
    cpu_memory: Text = knob(
        "", group="memory", help="The most main memory for layers that no GPU has room for: 24 (GiB). Empty: all."
    )
    auto_devices: bool = knob(
        False, group="memory", help="Spread the layers over all GPUs and the CPU by what is free."
    )
    disk: bool = knob(False, group="memory", help="Layers that fit nowhere else stay on the disk. Very slow.")
    disk_cache_dir: Text = knob("cache", group="memory", help="The folder for the layers that stay on the disk.")
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = knob(
        "auto", group="speed", help="How attention is computed. flash_attention_2 needs the package flash-attn."
    )
    use_flash_attention_2: bool = knob(
        False, group="speed", help="The older spelling of attn_implementation flash_attention_2."
    )
    use_eager_attention: bool = knob(False, group="speed", help="The older spelling of attn_implementation eager.")
    compute_dtype: Literal["float16", "bfloat16", "float32"] = knob(
        "float16", group="quantization", help="With load_in_4bit: the precision that is computed in."
    )
    quant_type: Literal["nf4", "fp4"] = knob(
        "nf4", group="quantization", help="With load_in_4bit: how the bits are spent."
    )
    use_double_quant: bool = knob(
        False, group="quantization", help="With load_in_4bit: quantize the scales, too. Saves 0.4 bits a weight."
    )
    alpha_value: float = knob(
        1.0, ge=1, range=(1, 8, 0.05), group="rope",
        help="NTK scaling: stretches the context without training. 1 is off; 1.75 for 1.5 times the context.",
    )  # fmt: skip
    rope_freq_base: float = knob(
        0, ge=0, range=(0, 1_000_000, 1000), group="rope",
        help="The RoPE base itself. Above 0 it wins over alpha_value; 0 is the model's own.",
    )  # fmt: skip
    compress_pos_emb: float = knob(
        1.0, ge=1, range=(1, 8, 0.5), group="rope",
        help="Linear scaling: divides the positions by this. Set it to the factor that the model was trained with.",
    )  # fmt: skip
    trust_remote_code: bool = knob(
        False, group="other", start_only=True,
        help="Let the folder's own Python code run. It can do anything that you can: only for sources that you trust.",
    )  # fmt: skip
    allow_pickle: bool = knob(
        False, group="other", start_only=True,
        help="Read pickled weights (.bin) where there are no safetensors. They are read as tensors alone, which "
        "keeps code from running in current versions of torch.",
    )  # fmt: skip
    force_safetensors: bool = knob(
        False, group="other", help="Accepted for old settings: safetensors are required unless allow_pickle is on."
    )
    no_use_fast: bool = knob(
        False, group="other", help="Accepted for old settings: the tokenizer is always the fast one."
    )

    def gpu_limits(self) -> list[str]:
        """`gpu_memory` for each GPU as accelerate reads it ("10GiB"). Raises: InvalidInput."""
        return [_size(part, "gpu_memory") for part in re.split(r"[,\s]+", self.gpu_memory.strip()) if part]

    def cpu_limit(self) -> str:
        """`cpu_memory` as accelerate reads it, "" for all. Raises: InvalidInput."""
        return _size(self.cpu_memory.strip(), "cpu_memory") if self.cpu_memory.strip() else ""

    def attention(self) -> str | None:
        """The implementation's name, or None for transformers' own choice."""
        if self.use_flash_attention_2:
            return "flash_attention_2"
        if self.use_eager_attention:
            return "eager"
        return None if self.attn_implementation == "auto" else self.attn_implementation


def _size(text: str, name: str) -> str:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GiB|MiB|GB|MB|G|M)?", text, re.IGNORECASE)
    if not found:
        raise InvalidInput(f"{name} is a size such as 10, 10GiB or 3500MiB, not {text!r}.")
    unit = {"": "GiB", "g": "GiB", "m": "MiB"}.get((found[2] or "").lower(), found[2])
    return f"{found[1]}{unit}"
