"""The kind of model in a folder by its config.json: models that generate no text are refused and never offered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto import modeling_auto

from errors import ModelFileError
from loaders import loader_named
from loaders.hf_common.architecture import ENCODER_DECODERS, ENCODERS, explain_unsupported
from tests.loaders.conftest import opened
from tests.loaders.hf_common.test_loaders import folder

#: In transformers' tables of encoder-decoders, but decoders with audio or image input.
HEARS = {
    "audioflamingo3", "glmasr", "granite_speech", "granite_speech_plus", "musicflamingo", "qwen2_audio", "qwen3_asr",
    "vibevoice_asr", "voxtral", "voxtral_realtime",
}  # fmt: skip

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "encoder-only model (bert)"),
    ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "encoder-only model (bert)"),
    ({"model_type": "roberta", "architectures": ["RobertaModel"]}, "encoder-only model (roberta)"),
    ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaForCausalLM"]}, "encoder-only model (xlm-roberta)"),
    ({"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"]}, "encoder-only model (modernbert)"),
    ({"model_type": "nomic_bert", "architectures": ["NomicBertModel"]}, "encoder-only model (nomic_bert)"),
    ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "encoder-decoder model"),
    ({"model_type": "new-one", "is_encoder_decoder": True}, "encoder-decoder model"),
    ({"model_type": "bart", "architectures": ["BartModel"]}, "encoder-decoder model"),
    ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "labels or scores for texts"),
    ({"model_type": "qwen2", "architectures": ["Qwen2ForProcessRewardModel"]}, "scores for texts"),
    ({"model_type": "gemma2", "architectures": ["Gemma2ForTokenClassification"]}, "labels for words"),
    ({"model_type": "unheard-of", "architectures": ["UnheardOfForMaskedLM"]}, "masked words"),
]

TAKEN: list[dict[str, Any]] = [
    {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
    {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]},
    {"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True},
    {"model_type": "bart", "architectures": ["BartForCausalLM"], "is_decoder": True, "is_encoder_decoder": False},
    {"model_type": "llama", "architectures": ["LlamaForSequenceClassification", "LlamaForCausalLM"]},
    {"model_type": "mamba", "architectures": ["MambaForCausalLM"]},
    {"model_type": "opt", "architectures": ["OPTModel"]},
]


@pytest.mark.parametrize(("config", "words"), REFUSED, ids=lambda each: str(each)[:60])
def test_what_writes_no_text_is_refused_and_not_offered(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "model", **config)
    with pytest.raises(ModelFileError) as error:
        opened("Transformers", path)
    assert words in str(error.value)
    assert words in (loader_named("Transformers").refuses(path) or "")
    for name in ("Transformers", "ExLlamav2", "ExLlamav2_HF"):
        assert loader_named(name).accepts(path) == 0


@pytest.mark.parametrize("config", TAKEN, ids=str)
def test_what_writes_text_is_offered(config: dict[str, Any], tmp_path: Path) -> None:
    path = folder(tmp_path / "model", **config)
    assert loader_named("Transformers").accepts(path) == 60
    assert loader_named("Transformers").refuses(path) is None


def test_all_that_transformers_knows_is_sorted() -> None:
    masked = set(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    pairs = set(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    assert masked - ENCODERS - ENCODER_DECODERS == set()
    assert pairs - ENCODER_DECODERS == HEARS
    writers = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - masked - pairs
    assert {name for name in writers if explain_unsupported({"model_type": name})} <= {"whisper", "xlnet"}


@pytest.mark.parametrize("strange", [5, "x", [1, None], {}, None], ids=str)
def test_strange_configs_are_no_reason(strange: Any) -> None:
    assert explain_unsupported({"architectures": strange, "model_type": strange}) is None
