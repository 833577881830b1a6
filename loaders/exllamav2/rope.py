"""Converts RoPE settings as transformers 5 writes them for exllamav2, which knows only the older keys.

Since version 5, `rope_theta`, `rope_scaling` and `partial_rotary_factor` are together in config.json's
`rope_parameters`. exllamav2 0.3.2 ignores that and uses base 10,000 without scaling: a folder saved by a new
transformers would produce nonsense. Knows no engine except the field names of its config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errors import ModelFileError


def apply_rope_parameters(config: Any, declared: Mapping[str, Any], name: str) -> None:
    """Set what `rope_parameters` contains and the older keys do not. Raises: ModelFileError for an unknown scaling."""
    inner = declared.get("text_config")
    holder = inner if isinstance(inner, dict) and "rope_parameters" in inner else declared
    found = holder.get("rope_parameters")
    if not isinstance(found, dict):
        return
    if isinstance(found.get("full_attention"), dict):  # one set for each kind of layer
        found = found["full_attention"]
    if "rope_theta" in found and "rope_theta" not in holder:
        config.rotary_embedding_base = float(found["rope_theta"])
    if "partial_rotary_factor" in found and "partial_rotary_factor" not in holder:
        config.partial_rotary_factor = float(found["partial_rotary_factor"])
    if holder.get("rope_scaling"):
        return
    try:
        _scale(config, found, name)
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(name, "its config.json has incomplete rope_parameters.") from None


def _scale(config: Any, found: Mapping[str, Any], name: str) -> None:
    match found.get("rope_type", found.get("type", "default")):
        case "default":
            pass
        case "linear":
            config.scale_pos_emb = float(found["factor"])
        case "llama3":
            config.l3_rope_factor = float(found["factor"])
            config.l3_rope_low_freq_factor = float(found["low_freq_factor"])
            config.l3_rope_high_freq_factor = float(found["high_freq_factor"])
            config.l3_rope_original_max_position_embeddings = int(found["original_max_position_embeddings"])
            config.alt_rope_method = "llama3"
        case "yarn":
            config.yarn_rope_factor = float(found["factor"])
            config.yarn_rope_original_max_position_embeddings = int(found["original_max_position_embeddings"])
            config.alt_rope_method = "yarn"
        case "longrope" | "su":
            config.scale_long_factor = list(found["long_factor"])
            config.scale_short_factor = list(found["short_factor"])
            config.original_max_seq_len = int(found["original_max_position_embeddings"])
            config.alt_rope_method = "su"
        case other:
            raise ModelFileError(name, f"ExLlamaV2 does not support its RoPE scaling ({other!r}).")
