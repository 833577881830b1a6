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
    "llamacpp_HF reads the tokenizer out of the GGUF": ("", "tokenizer_dir", ""),
    "--keep says how many of the first tokens stay, with --context-shift": ("", "attention_sink_size", ""),
    "the model is not compiled": ("torch_compile", "", ""),
    "TensorRT-LLM is not part of this program": ("cpp_runner", "", ""),
    "thoughts of earlier turns are given to the template, which keeps or drops them": ("preserve_thinking", "", ""),
    "the page is always the chat with its other tabs, and replies appear as they are written": (
        "chat cai_chat notebook no_stream",
        "",
        "",
    ),
    "attention is chosen by --attn-implementation": ("xformers sdp_attention", "", ""),
    "FlexGen is not part of this program": ("flexgen compress_weight", "pin_weight", "percent"),
    "RWKV models are loaded as GGUF files or with Transformers, without these": ("rwkv_cuda_on", "rwkv_strategy", ""),
    "the API has one port, --api-port": ("", "api_blocking_port api_streaming_port", ""),
    "the ExLlamaV2 loader never uses SDPA": ("no_sdpa", "", ""),
    "it belongs to ExLlamaV3, which is not part of this program": ("", "tp_backend", ""),
    _GPTQ: (
        "triton no_inject_fused_attention no_inject_fused_mlp no_use_cuda_fp16 desc_act disable_exllama "
        "disable_exllamav2 monkey_patch autogptq gptq_for_llama quant_attn warmup_autotune fused_mlp",
        "wbits model_type groupsize checkpoint gptq_bits gptq_model_type gptq_pre_layer",
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
    "the page cannot be served below a path yet; it is served at /": ("", "subpath", ""),
    _PAGE: ("chat_buttons old_colors portable no_electron", "", ""),
    _IMAGES: (
        "image_cpu_offload image_compile",
        "image_model image_model_dir image_dtype image_attn_backend image_quant",
        "",
    ),
}


#: Switches of the original that have a `--no-` form, too.
SWITCHED_BOTH_WAYS = frozenset({"enable_thinking", "preserve_thinking", "stream"})

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
