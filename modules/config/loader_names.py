"""Compares loader names in any spelling: case, punctuation and the "v" of a version do not matter.

This module must not know which loaders there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: The original's alternative names, in lower case without punctuation, and what they mean.
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


def normalize_loader_name(name: str) -> str:
    """A normal form that is equal for spellings of the same loader, such as "exllama-2_hf" and "ExLlamav2_HF"."""
    plain = "".join(character for character in name.lower() if character.isalnum())
    plain = re.sub(r"^exll?ama(?:v?(\d))?", lambda found: f"exllamav{found[1]}" if found[1] else "exllama", plain)
    return _MEANING.get(plain, plain)
