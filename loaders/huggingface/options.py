"""The load options of the Transformers loader, each declared once. It knows names and bounds, not their effects."""

from __future__ import annotations

import re
from typing import Literal

from errors import InvalidInput
from loaders.knobs import knob
from loaders.params import LoadOptions, Text
from loaders.shared_options import ALPHA_VALUE, COMPRESS_POS_EMB, CPU, MAX_SEQ_LEN, NO_USE_FAST, ROPE_FREQ_BASE


class TransformersOptions(LoadOptions):
    """How a Hugging Face folder is loaded."""

    max_seq_len: int = MAX_SEQ_LEN
    bf16: bool = knob(
        False, group="main",
        help="Load the weights in bfloat16. Off: float16 on a GPU, float32 on the CPU.",
    )  # fmt: skip
    load_in_8bit: bool = knob(
        False, group="main", help="Quantize the weights to 8 bits with bitsandbytes. Needs a CUDA GPU."
    )
    load_in_4bit: bool = knob(
        False, group="main", help="Quantize the weights to 4 bits with bitsandbytes. Needs a CUDA GPU."
    )
    cpu: bool = CPU
    gpu_memory: Text = knob(
        "", group="memory",
        help="Maximum memory for weights on each GPU, separated by commas: 10,5 (GiB) or 3500MiB. Empty is no limit.",
    )  # fmt: skip
    cpu_memory: Text = knob(
        "", group="memory", help="Maximum main memory for layers that do not fit on a GPU: 24 (GiB). Empty is no limit."
    )
    auto_devices: bool = knob(
        False, group="memory", help="Distribute the layers over all GPUs and the CPU by free memory."
    )
    disk: bool = knob(False, group="memory", help="Leave layers that fit nowhere else on the disk. Very slow.")
    disk_cache_dir: Text = knob("cache", group="memory", help="Folder for the layers that are left on the disk.")
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = knob(
        "auto", group="speed", help="Attention implementation. flash_attention_2 needs the package flash-attn."
    )
    use_flash_attention_2: bool = knob(False, group="speed", help="Old name for attn_implementation flash_attention_2.")
    use_eager_attention: bool = knob(False, group="speed", help="Old name for attn_implementation eager.")
    compute_dtype: Literal["float16", "bfloat16", "float32"] = knob(
        "float16", group="quantization", help="With load_in_4bit: precision of the computation."
    )
    quant_type: Literal["nf4", "fp4"] = knob(
        "nf4", group="quantization", help="With load_in_4bit: quantization data type."
    )
    use_double_quant: bool = knob(
        False, group="quantization", help="With load_in_4bit: also quantize the scales. Saves 0.4 bits per weight."
    )
    alpha_value: float = ALPHA_VALUE
    rope_freq_base: float = ROPE_FREQ_BASE
    compress_pos_emb: float = COMPRESS_POS_EMB
    trust_remote_code: bool = knob(
        False, group="other", start_only=True,
        help="Run Python code from the model folder. It can do anything that you can; enable it only for sources you "
        "trust.",
    )  # fmt: skip
    allow_pickle: bool = knob(
        False, group="other", start_only=True,
        help="Load pickled weights (.bin) if there are no safetensors. Only tensors are read, so current versions of "
        "torch run no code from the file.",
    )  # fmt: skip
    force_safetensors: bool = knob(
        False,
        group="other",
        help="Only for old settings; has no effect. Safetensors are required unless allow_pickle is on.",
    )
    no_use_fast: bool = NO_USE_FAST

    def parse_gpu_memory(self) -> list[str]:
        """`gpu_memory` per GPU in accelerate's form ("10GiB"). Raises: InvalidInput."""
        return [_parse_size(part, "gpu_memory") for part in re.split(r"[,\s]+", self.gpu_memory.strip()) if part]

    def parse_cpu_memory(self) -> str:
        """`cpu_memory` in accelerate's form, "" for all. Raises: InvalidInput."""
        return _parse_size(self.cpu_memory.strip(), "cpu_memory") if self.cpu_memory.strip() else ""

    def choose_attention(self) -> str | None:
        """The implementation's name, or None for transformers' own choice."""
        if self.use_flash_attention_2:
            return "flash_attention_2"
        if self.use_eager_attention:
            return "eager"
        return None if self.attn_implementation == "auto" else self.attn_implementation


def _parse_size(text: str, name: str) -> str:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GiB|MiB|GB|MB|G|M)?", text, re.IGNORECASE)
    if not found:
        raise InvalidInput(f"{name} must be a size such as 10, 10GiB or 3500MiB (got {text!r}).")
    unit = {"": "GiB", "g": "GiB", "m": "MiB"}.get((found[2] or "").lower(), found[2])
    return f"{found[1]}{unit}"
