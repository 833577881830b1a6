"""The kind of model in a GGUF by its header: whether it generates text, only creates embeddings, or neither.

Pure; must not import llama_cpp. Metadata of llama.cpp's converter say whether attention is bidirectional; the few
architectures with several parts, or that do not generate token by token, are known by name.
"""

from __future__ import annotations

from pathlib import Path

from errors import ModelFileError
from loaders.llamacpp.gguf import GGUFHeader, read_header

_ENCODER_DECODER = frozenset(("t5",))
_ENCODERS = frozenset(("t5encoder",))  # llama.cpp cannot compute embeddings of these in its usual way
_EMBEDDERS = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert")
    + ("gemma-embedding", "llama-embed")
)
_DIFFUSION = frozenset(("dream", "llada", "llada-moe", "rnd1"))
_PARTS = {
    "clip": "it is an image encoder (mmproj), not a complete model.",
    "wavtokenizer-dec": "it is an audio decoder, not a text generation model.",
}

#: What this program supports, for users who have something else.
_RUNS = "this program only runs decoder-only models (GPT, Llama, Qwen)"


def explain_unsupported(header: GGUFHeader) -> str | None:
    """Why no loader of GGUF files supports this one, as the end of a sentence."""
    name = header.architecture
    if header.metadata.get("general.type") == "adapter":
        return "it is a LoRA adapter, not a complete model. Load its base model, then apply the adapter."
    if name in _PARTS:
        return _PARTS[name]
    if name in _ENCODER_DECODER:
        return f"it is an encoder-decoder model ({name}); {_RUNS}."
    if name in _ENCODERS:
        return f"it is an encoder-only model ({name}); {_RUNS}."
    if name in _DIFFUSION:
        return f"it is a diffusion language model ({name}), which does not generate token by token; {_RUNS}."
    if header.metadata.get("tokenizer.ggml.model") in ("none", "no_vocab"):
        return "it has no vocabulary, so it cannot process text."
    if not any(tensor.name.startswith("blk.") for tensor in header.tensors):
        return "it contains only a vocabulary or an adapter, not a complete model."
    return None


def explain_embedding_only(header: GGUFHeader) -> str | None:
    """Why a model that loads generates no text, as a sentence without its subject; None if it generates."""
    if header.architecture in _EMBEDDERS or header.get("attention.causal") is False:
        return f"is an encoder-only model ({header.architecture}): it creates embeddings but does not generate text."
    return None


def inspect_file(path: Path) -> tuple[str | None, str | None]:
    """`explain_unsupported` and `explain_embedding_only` of a file; nothing for an unreadable one, which is reported
    when it is loaded.
    """
    try:
        header = read_header(path)
    except (ModelFileError, OSError):
        return None, None
    return explain_unsupported(header), explain_embedding_only(header)
