"""What kind of model a folder holds, by its config.json: whether it writes text from left to right. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Attention looks both ways in these, unless the config says `is_decoder`. transformers loads some of them as causal
#: models all the same, and they write garbage.
ENCODERS = frozenset((
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "embedding_gemma2", "ernie", "ernie_m", "esm", "esmc", "eurobert", "flaubert", "fnet",
    "funnel", "gte", "ibert", "jina_embeddings_v3", "layoutlm", "layoutlmv2", "layoutlmv3", "lilt", "longformer",
    "luke", "markuplm", "megatron-bert", "mobilebert", "modernbert", "modernvbert", "mpnet", "mra", "neobert", "neomme",
    "new", "nezha", "nomic_bert", "nystromformer", "perceiver", "qdqbert", "reformer", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "splinter", "squeezebert", "tapas", "visual_bert", "xlm",
    "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso",
))  # fmt: skip

#: A text is read by one half and written by the other. Their decoders alone, `is_decoder`, are another matter.
ENCODER_DECODERS = frozenset((
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "encoder-decoder", "fsmt", "led", "longt5", "m2m_100",
    "marian", "mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "seamless_m4t",
    "seamless_m4t_v2", "switch_transformers", "t5", "t5gemma", "t5gemma2", "umt5", "whisper",
))  # fmt: skip

#: What a head computes in place of the next token. transformers would put a head of random weights in its place.
_HEADS = {
    "ForSequenceClassification": "labels or scores for a text",
    "ForTokenClassification": "labels for words",
    "ForQuestionAnswering": "places in a text",
    "ForMultipleChoice": "a choice out of several",
    "ForMaskedLM": "words for gaps",
    "ForNextSentencePrediction": "whether two texts follow each other",
    "RewardModel": "scores for a text",
    "ForImageClassification": "labels for pictures",
}

#: These decode, but draw their attention by chance (Reformer) or in an order of their own (XLNet).
_OTHERS = frozenset(("reformer", "xlnet"))

_RUNS = "this program runs decoder-only models (GPT, Llama, Qwen)"


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why no loader of folders takes this model, as the end of a sentence; None where it writes text."""
    kind = str(config.get("model_type", "")).lower()
    decodes = config.get("is_decoder") is True or config.get("causal") is True
    if config.get("is_encoder_decoder") or (kind in ENCODER_DECODERS and not decodes):
        return f"it is an encoder-decoder model, and {_RUNS}."
    if kind in _OTHERS:
        return f"models of the kind {kind} do not write from left to right, each token from all before it, and {_RUNS}."
    if kind in ENCODERS and not decodes:
        return f"it is an encoder-only model ({kind}), made for embeddings and labels, and {_RUNS}."
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    gives = [_head(name) for name in names]
    if names and all(gives):
        return f"it was made to give {gives[0]} ({names[0]}), and has no layer that writes text."
    return None


def _head(architecture: str) -> str:
    return next((gives for ending, gives in _HEADS.items() if architecture.endswith(ending)), "")
