"""What kind of model a GGUF holds, by its header: what writes text, what makes embeddings alone, and what is neither.

Pure; must not import llama_cpp. Metadata of llama.cpp's converter say whether attention looks ahead; the few
architectures that have more than one part, or write in another way than token by token, are known by name.
"""

from __future__ import annotations

from pathlib import Path

from errors import ModelFileError
from loaders.llamacpp.gguf import GGUFHeader, read_header

_ENCODER_DECODER = frozenset(("t5",))
_ENCODERS = frozenset(("t5encoder",))  # llama.cpp gives no embeddings of these through its usual way
_EMBEDDERS = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert")
    + ("gemma-embedding", "llama-embed")
)
_DIFFUSION = frozenset(("dream", "llada", "llada-moe", "rnd1"))
_PARTS = {
    "clip": "it is the image encoder of a model (mmproj), not a whole model.",
    "wavtokenizer-dec": "it is an audio decoder, not a model that writes text.",
}

#: What this program runs, for those who have something else.
_RUNS = "this program runs decoder-only models (GPT, Llama, Qwen)"


def refusal(header: GGUFHeader) -> str | None:
    """Why no loader of GGUF files takes this one, as the end of a sentence."""
    name = header.architecture
    if header.metadata.get("general.type") == "adapter":
        return "it is a LoRA adapter, not a whole model. Load the model that it was made for, then the adapter."
    if name in _PARTS:
        return _PARTS[name]
    if name in _ENCODER_DECODER:
        return f"it is an encoder-decoder model ({name}), and {_RUNS}."
    if name in _ENCODERS:
        return f"it is an encoder-only model ({name}), and {_RUNS}."
    if name in _DIFFUSION:
        return f"it is a diffusion language model ({name}), which does not write token by token, and {_RUNS}."
    if header.metadata.get("tokenizer.ggml.model") in ("none", "no_vocab"):
        return "it has no vocabulary, so no text can be read or written with it."
    if not any(tensor.name.startswith("blk.") for tensor in header.tensors):
        return "it holds a vocabulary or an adapter, not a whole model."
    return None


def only_embeds(header: GGUFHeader) -> str | None:
    """Why a model that loads writes no text, as a sentence that has no subject yet; None where it writes."""
    if header.architecture in _EMBEDDERS or header.get("attention.causal") is False:
        return f"is an encoder-only model ({header.architecture}): it makes embeddings and writes no text."
    return None


def look(path: Path) -> tuple[str | None, str | None]:
    """`refusal` and `only_embeds` of a file; nothing of one that cannot be read, which is said when it is loaded."""
    try:
        header = read_header(path)
    except (ModelFileError, OSError):
        return None, None
    return refusal(header), only_embeds(header)
