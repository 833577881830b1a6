"""The kind of model in a folder by its config.json: whether it generates text from left to right. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Bidirectional attention, unless the config says `is_decoder`. transformers loads some of them as causal models all
#: the same, and they produce garbage.
ENCODERS = frozenset((
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "embedding_gemma2", "ernie", "ernie_m", "esm", "esmc", "eurobert", "flaubert", "fnet",
    "funnel", "gte", "ibert", "jina_embeddings_v3", "layoutlm", "layoutlmv2", "layoutlmv3", "lilt", "longformer",
    "luke", "markuplm", "megatron-bert", "mobilebert", "modernbert", "modernvbert", "mpnet", "mra", "neobert", "neomme",
    "new", "nezha", "nomic_bert", "nystromformer", "perceiver", "qdqbert", "reformer", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "splinter", "squeezebert", "tapas", "visual_bert", "xlm",
    "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso",
))  # fmt: skip

#: Encoder-decoder models. Their decoders alone (`is_decoder`) are a different matter.
ENCODER_DECODERS = frozenset((
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "fsmt", "led", "longt5", "m2m_100",
    "marian", "mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "seamless_m4t",
    "seamless_m4t_v2", "switch_transformers", "t5", "t5gemma", "t5gemma2", "umt5", "whisper",
))  # fmt: skip

#: Heads that do not predict the next token. transformers would replace them by a head with random weights.
_HEADS = {
    "ForSequenceClassification": "labels or scores for texts",
    "ForTokenClassification": "labels for words",
    "ForQuestionAnswering": "positions in a text",
    "ForMultipleChoice": "a choice among several options",
    "ForMaskedLM": "masked words",
    "ForNextSentencePrediction": "whether two texts follow each other",
    "RewardModel": "scores for texts",
    "ForImageClassification": "labels for images",
}

#: Decoders whose attention is random (Reformer) or has its own order (XLNet).
_OTHERS = frozenset(("reformer", "xlnet"))

_RUNS = "this program only runs decoder-only models (GPT, Llama, Qwen)"


def explain_unsupported(config: Mapping[str, Any]) -> str | None:
    """Why no loader of folders supports this model, as the end of a sentence; None if it generates text."""
    kind = str(config.get("model_type", "")).lower()
    decodes = config.get("is_decoder") is True or config.get("causal") is True
    if config.get("is_encoder_decoder") or (kind in ENCODER_DECODERS and not decodes):
        return f"it is an encoder-decoder model; {_RUNS}."
    if kind in _OTHERS:
        return (
            f"models of the type {kind} do not generate text from left to right, each token based on all before it; "
            f"{_RUNS}."
        )
    if kind in ENCODERS and not decodes:
        return f"it is an encoder-only model ({kind}) for embeddings and labels; {_RUNS}."
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    gives = [_head(name) for name in names]
    if names and all(gives):
        return f"it was trained to produce {gives[0]} ({names[0]}) and has no layer that generates text."
    return None


def _head(architecture: str) -> str:
    return next((gives for ending, gives in _HEADS.items() if architecture.endswith(ending)), "")
