"""Loaders' names as people and the original's files write them: whatever the case, the signs between, the version's v.

This module must not know which loaders there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Other names that the original understands, without signs and case, and what they mean.
_MEANING: Mapping[str, str] = {
    "hf": "transformers",
    "huggingface": "transformers",
    "transformer": "transformers",
    "llamacpppython": "llamacpp",
    "gguf": "llamacpp",
    "awq": "autoawq",
    "gptq": "autogptq",
    "gptqllama": "gptqforllama",
    "quipsharp": "quip",
    "ctransformer": "ctransformers",
    "ctranforemrs": "ctransformers",
    "tensorrt": "tensorrtllm",
    "tensort": "tensorrtllm",
    "tensortllm": "tensorrtllm",
}


def loader_key(name: str) -> str:
    """What two spellings of one loader have in common: "exllama-2_hf" and "ExLlamav2_HF" give the same."""
    plain = "".join(character for character in name.lower() if character.isalnum())
    plain = re.sub(r"^exll?ama(?:v?(\d))?", lambda found: f"exllamav{found[1]}" if found[1] else "exllama", plain)
    return _MEANING.get(plain, plain)
