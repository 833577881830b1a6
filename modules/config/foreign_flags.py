"""Flags of the original that have no meaning here, or not yet: accepted with one line that says so.

So a CMD_FLAGS.txt from there starts this program unchanged. A flag that gets a meaning is declared where it belongs
and leaves this table; a declared flag always wins over a row here. This module must not know what flags there are
besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Takes = Literal["nothing", "value", "values"]


@dataclass(frozen=True)
class ForeignFlag:
    """A flag that is read over: its name with underscores, what follows it, and why it does nothing."""

    name: str
    takes: Takes
    why: str


_GPTQ = "it belongs to GPTQ loaders that are not part of this program; ExLlamaV2 loads GPTQ models without it"
_HQQ = "HQQ is not part of this program; take an EXL2 or GGUF version of the model"
_DEEPSPEED = "DeepSpeed is not part of this program"
_DRAFT = "speculative decoding is not possible with llama.cpp yet; ExLlamaV2 has --draft-model and --ngram-draft"
_TUNNEL = "no tunnel is opened for the API; use --listen, or a tunnel of your own"
_IMAGES = "this program makes no images"
_PAGE = "the page has no such variant"

#: reason -> (switches, flags with one value, flags with several values)
_TABLE: Mapping[str, tuple[str, str, str]] = {
    "the KV cache is always used": ("no_cache", "", ""),
    "the ExLlamaV2 loader never uses SDPA": ("no_sdpa", "", ""),
    "it belongs to ExLlamaV3, which is not part of this program": ("", "tp_backend", ""),
    _GPTQ: (
        "triton no_inject_fused_attention no_inject_fused_mlp no_use_cuda_fp16 desc_act disable_exllama "
        "disable_exllamav2 monkey_patch",
        "wbits model_type groupsize checkpoint",
        "pre_layer",
    ),
    _HQQ: ("", "hqq_backend", ""),
    _DEEPSPEED: ("deepspeed", "nvme_offload_dir local_rank", ""),
    "llama.cpp chooses its CUDA kernels by itself": ("tensorcores no_mul_mat_q", "", ""),
    "ik_llama.cpp is not part of this program; llama.cpp loads the model": ("ik", "", ""),
    "llama.cpp cannot use RPC servers on other machines here yet": ("", "rpc", ""),
    "this program starts no llama-server that could take them": ("", "extra_flags", ""),
    "models that see images cannot be used yet": ("", "mmproj multimodal_pipeline", ""),
    _DRAFT: (
        "",
        "gpu_layers_draft device_draft ctx_size_draft spec_type spec_ngram_size_n spec_ngram_size_m "
        "spec_ngram_min_hits",
        "",
    ),
    _TUNNEL: ("public_api", "public_api_id", ""),
    "--listen-host chooses the address of the API, too": ("api_enable_ipv6 api_disable_ipv4", "", ""),
    "the page and each API request choose the template and the reasoning effort": (
        "",
        "chat_template_file reasoning_effort",
        "",
    ),
    "the switch stands in the chat's controls, and an API request has its own": ("enable_thinking", "", ""),
    "models are not unloaded when idle yet": ("", "idle_timeout", ""),
    "the user's folders lie beside server.py": ("", "user_data_dir", ""),
    "the page cannot be served below a path yet; it is served at /": ("", "subpath", ""),
    _PAGE: ("chat_buttons old_colors portable no_electron", "", ""),
    _IMAGES: (
        "image_cpu_offload image_compile",
        "image_model image_dtype image_attn_backend image_quant",
        "",
    ),
}


#: Loaders of the original that do not stand here: `--loader` accepts them and chooses by itself.
FOREIGN_LOADERS: Mapping[str, str] = {
    **dict.fromkeys(
        ("AutoGPTQ", "AutoAWQ", "GPTQ-for-LLaMa", "ctransformers", "QuIP#", "HQQ", "ExLlama", "ExLlama_HF")
        + ("ExLlamav3", "ExLlamav3_HF", "TensorRT-LLM"),
        "this loader is not part of this program",
    ),
}


def foreign_flags() -> Mapping[str, ForeignFlag]:
    """Every such flag by its name with underscores."""
    takes: tuple[Takes, ...] = ("nothing", "value", "values")
    return {
        name: ForeignFlag(name, kind, why)
        for why, columns in _TABLE.items()
        for kind, names in zip(takes, columns, strict=True)
        for name in names.split()
    }
