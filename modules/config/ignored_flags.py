"""Flags of the original that have no effect here (yet): accepted, with a line that says so.

So the original's CMD_FLAGS.txt works here unchanged. A flag that gets a meaning is declared where it belongs and
removed from this table; a declared flag overrides a row here. This module must not know which other flags there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Takes = Literal["nothing", "value", "values"]


@dataclass(frozen=True)
class IgnoredFlag:
    """An ignored flag: its name with underscores, its values, and why it has no effect."""

    name: str
    takes: Takes
    why: str


_GPTQ = "for GPTQ loaders, which are not part of this program; ExLlamaV2 loads GPTQ models without it"
_HQQ = "HQQ is not part of this program; use an EXL2 or GGUF version of the model"
_DEEPSPEED = "DeepSpeed is not part of this program"
_TUNNEL = "no tunnel is opened for the API; use --listen, or your own tunnel"
_IMAGES = "this program does not generate images"
_PAGE = "the page has no such variant"

#: reason -> (switches, flags with one value, flags with several values)
_TABLE: Mapping[str, tuple[str, str, str]] = {
    "the KV cache is always used": ("no_cache", "", ""),
    "llamacpp_HF reads the tokenizer from the GGUF file": ("", "tokenizer_dir", ""),
    "use --keep with --context-shift to set how many of the first tokens are kept": ("", "attention_sink_size", ""),
    "the model is not compiled": ("torch_compile", "", ""),
    "TensorRT-LLM is not part of this program": ("cpp_runner", "", ""),
    "reasoning of earlier turns is passed to the template, which keeps or drops it": ("preserve_thinking", "", ""),
    "the chat and the other tabs are always available, and replies are streamed": (
        "chat cai_chat notebook no_stream",
        "",
        "",
    ),
    "use --attn-implementation to choose the attention implementation": ("xformers sdp_attention", "", ""),
    "FlexGen is not part of this program": ("flexgen compress_weight", "pin_weight", "percent"),
    "RWKV models run as GGUF files or with Transformers, without these flags": ("rwkv_cuda_on", "rwkv_strategy", ""),
    "the API has one port, --api-port": ("", "api_blocking_port api_streaming_port", ""),
    "the ExLlamaV2 loader never uses SDPA": ("no_sdpa", "", ""),
    "for ExLlamaV3, which is not part of this program": ("", "tp_backend", ""),
    _GPTQ: (
        "triton no_inject_fused_attention no_inject_fused_mlp no_use_cuda_fp16 desc_act disable_exllama "
        "disable_exllamav2 monkey_patch autogptq gptq_for_llama quant_attn warmup_autotune fused_mlp",
        "wbits model_type groupsize checkpoint gptq_bits gptq_model_type gptq_pre_layer",
        "pre_layer",
    ),
    _HQQ: ("", "hqq_backend", ""),
    _DEEPSPEED: ("deepspeed", "nvme_offload_dir local_rank", ""),
    "llama.cpp chooses its CUDA kernels itself": ("tensorcores no_mul_mat_q", "", ""),
    "ik_llama.cpp is not part of this program; llama.cpp loads the model": ("ik", "", ""),
    "this program does not start llama-server, which these flags are for": ("", "extra_flags", ""),
    "models with image input are not supported yet": ("", "mmproj multimodal_pipeline", ""),
    _TUNNEL: ("public_api", "public_api_id", ""),
    "--listen-host also sets the address of the API": ("api_enable_ipv6 api_disable_ipv4", "", ""),
    "the template and reasoning effort are set in the page and in each API request": (
        "",
        "chat_template_file reasoning_effort",
        "",
    ),
    "set it in the chat's controls, or in each API request": ("enable_thinking", "", ""),
    "the page cannot be served under a subpath yet; it is served at /": ("", "subpath", ""),
    _PAGE: ("chat_buttons old_colors portable no_electron", "", ""),
    _IMAGES: (
        "image_cpu_offload image_compile",
        "image_model image_model_dir image_dtype image_attn_backend image_quant",
        "",
    ),
}


#: Switches of the original that also have a `--no-` form.
SWITCHED_BOTH_WAYS = frozenset({"enable_thinking", "preserve_thinking", "stream"})

#: Loaders of the original that do not exist here: `--loader` accepts them and chooses a loader automatically.
UNSUPPORTED_LOADERS: Mapping[str, str] = {
    **dict.fromkeys(
        ("AutoGPTQ", "AutoAWQ", "GPTQ-for-LLaMa", "ctransformers", "QuIP#", "HQQ", "ExLlama", "ExLlama_HF")
        + ("ExLlamav3", "ExLlamav3_HF", "TensorRT-LLM"),
        "this loader is not part of this program",
    ),
}


def ignored_flags() -> Mapping[str, IgnoredFlag]:
    """Every ignored flag by its name with underscores."""
    takes: tuple[Takes, ...] = ("nothing", "value", "values")
    return {
        name: IgnoredFlag(name, kind, why)
        for why, columns in _TABLE.items()
        for kind, names in zip(takes, columns, strict=True)
        for name in names.split()
    }
