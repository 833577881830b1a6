"""Models to begin with, by the memory that they need: well-known instruction models in GGUF form on the hub.

Sizes are those of the usual quantization (Q4_K_M, or the only one). Whether one fits here is asked of SystemMemory.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suggestion:
    """A repository of the hub. `memory`: GB of GPU memory (or of main memory, slower) for which it is meant."""

    repo: str
    size: float  # GB
    memory: int


SUGGESTIONS = (
    Suggestion("ggml-org/gemma-3-1b-it-GGUF", 0.8, 4),
    Suggestion("Qwen/Qwen3-1.7B-GGUF", 1.8, 4),
    Suggestion("bartowski/Llama-3.2-3B-Instruct-GGUF", 2.0, 4),
    Suggestion("ggml-org/gemma-3-4b-it-GGUF", 2.5, 8),
    Suggestion("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", 4.9, 8),
    Suggestion("Qwen/Qwen3-8B-GGUF", 5.0, 8),
    Suggestion("ggml-org/gemma-3-12b-it-GGUF", 7.3, 12),
    Suggestion("Qwen/Qwen3-14B-GGUF", 9.0, 12),
    Suggestion("ggml-org/gpt-oss-20b-GGUF", 12.1, 16),
    Suggestion("bartowski/Mistral-Small-24B-Instruct-2501-GGUF", 14.3, 16),
    Suggestion("ggml-org/gemma-3-27b-it-GGUF", 16.5, 24),
    Suggestion("Qwen/Qwen3-30B-A3B-GGUF", 18.6, 24),
    Suggestion("Qwen/Qwen3-32B-GGUF", 19.8, 24),
)
