"""The kind of model in a GGUF by its header: refused, embeddings only, or offered as a chat model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from errors import ModelFileError, Unsupported
from loaders import loader_named
from loaders.base import Request
from tests.loaders.conftest import opened
from tests.loaders.llamacpp.gguf_writer import write_gguf
from tests.zoo import ggufs

REFUSED = {
    "t5": "encoder-decoder model (t5)",
    "t5encoder": "encoder-only model (t5encoder)",
    "llada": "diffusion language model (llada)",
    "dream": "diffusion language model (dream)",
    "rnd1": "diffusion language model (rnd1)",
    "clip": "image encoder (mmproj)",
    "wavtokenizer-dec": "audio decoder",
}
EMBEDDERS = (
    "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert",
    "gemma-embedding", "llama-embed",
)  # fmt: skip


def written(path: Path, architecture: str, tensor: str = "blk.0.attn_q.weight", **more: str | int | float) -> Path:
    metadata: Mapping[str, str | int | float] = {
        "general.architecture": architecture, f"{architecture}.block_count": 1, **more,
    }  # fmt: skip
    write_gguf(path, metadata, {tensor: np.zeros((4, 4), np.float32)})
    return path


@pytest.mark.parametrize("loader", ["llama.cpp", "llamacpp_HF"])
@pytest.mark.parametrize("architecture", REFUSED)
def test_what_writes_no_text_is_refused_and_not_offered(loader: str, architecture: str, tmp_path: Path) -> None:
    for tensor in ("blk.0.attn_q.weight", "enc.blk.0.attn_q.weight"):
        path = written(tmp_path / "model.gguf", architecture, tensor)
        with pytest.raises(ModelFileError) as error:
            opened(loader, path)
        assert REFUSED[architecture] in str(error.value)
        assert REFUSED[architecture] in (loader_named("llama.cpp").refuses(path) or "")
        assert loader_named(loader).accepts(path) == loader_named(loader).accepts(tmp_path) == 0


@pytest.mark.parametrize("architecture", EMBEDDERS)
def test_encoders_are_for_embeddings_alone(architecture: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.gguf", architecture)
    assert 0 < loader_named("llama.cpp").accepts(path) < 50
    assert loader_named("llamacpp_HF").accepts(path) == 0
    with pytest.raises(ModelFileError, match="not generate text"):
        opened("llamacpp_HF", path)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [({"general.type": "adapter"}, "LoRA adapter"), ({}, "vocabulary or an adapter")],
    ids=["adapter", "vocabulary"],
)
def test_parts_of_models(metadata: dict[str, str], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.gguf", "llama", "token_embd.weight", **metadata)
    with pytest.raises(ModelFileError, match=words):
        opened("llama.cpp", path)
    assert loader_named("llama.cpp").accepts(path) == 0


@pytest.mark.parametrize("architecture", ["llama", "mamba", "lfm2", "gemma3", "something-new"])
def test_what_writes_is_offered(architecture: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.gguf", architecture)
    assert [loader_named(name).accepts(path) for name in ("llama.cpp", "llamacpp_HF")] == [100, 50]
    assert loader_named("llama.cpp").accepts(tmp_path) == 90
    assert loader_named("llama.cpp").refuses(path) is None


def test_what_cannot_be_read_is_offered_and_refused_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    assert loader_named("llama.cpp").accepts(tmp_path / "x.gguf") == 100
    with pytest.raises(ModelFileError):
        opened("llama.cpp", tmp_path / "x.gguf")


def test_an_encoder_makes_embeddings_and_says_that_it_writes_nothing(tmp_path: Path) -> None:
    with opened("llama.cpp", ggufs.make("bert", tmp_path), n_ctx=512, threads=1, threads_batch=1) as model:
        ids = [model.tokenizer.encode(text, add_bos=True) for text in ("one text", "another")]
        vectors = model.embed(ids)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert not np.allclose(vectors[0], vectors[1])
        for ask in (lambda: model.generate(Request(ids[0])), lambda: model.next_logits(Request(ids[0]))):
            with pytest.raises(Unsupported, match="creates embeddings but does not generate text"):
                ask()
        with pytest.raises(Unsupported, match="encoder-only model"):
            model.score(ids[0])
        assert any("encoder-only model (bert)" in note for note in model.notes)
