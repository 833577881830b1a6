"""Embeddings with the loaded weights: meaningful unit vectors, next to a running reply."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from errors import (
    Cancelled,
    EmptyPrompt,
    InvalidToken,
    ModelClosed,
    ModelFileError,
    PromptTooLong,
    Unavailable,
    Unsupported,
)
from loaders import loader_named
from loaders.base import Model, Request
from loaders.llamacpp import embedding, embedding_size
from tests.fake_engine import FakeModel


def ids(model: Model, text: str) -> list[int]:
    return model.tokenizer.encode(text)


def test_vectors_have_length_one_and_repeat(demo_model: Model) -> None:
    texts = [ids(demo_model, text) for text in ("a cat sleeps", "a kitten sleeps", "the tax law of 1987")]
    vectors = demo_model.embed(texts)
    assert vectors.shape[0] == 3
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[0], demo_model.embed(texts[:1])[0])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_a_running_reply_goes_on_undisturbed(apart: Model) -> None:
    demo_model = apart  # what else lies in a shared cache changes the last bits (docs/engine.md)
    request = Request(ids(demo_model, "Once upon a time"), max_tokens=24)
    request = Request(request.ids, request.params.changed(temperature=0), 24)
    list(demo_model.generate(request))
    alone = [token.id for token in demo_model.generate(request)]
    stream = demo_model.generate(Request(request.ids, request.params, 24))
    demo_model.embed([ids(demo_model, "something else entirely")] * 3)
    assert [token.id for token in stream] == alone


def test_what_cannot_be_embedded_is_refused(demo_model: Model) -> None:
    with pytest.raises(EmptyPrompt):
        demo_model.embed([[]])
    with pytest.raises(InvalidToken):
        demo_model.embed([[10**6]])
    with pytest.raises(PromptTooLong):
        demo_model.embed([[5] * 5000])
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        demo_model.embed([[5]], cancel)
    with pytest.raises(Unsupported, match="fake"):
        FakeModel().embed([[5]])


def test_after_close_there_is_nothing(demo_model_path: object) -> None:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 256, "threads": 1})
    model = loader.load(demo_model_path, options, lambda _fraction, _doing: True)  # type: ignore[arg-type]
    model.embed([[5, 6]])
    model.close()
    with pytest.raises(ModelClosed):
        model.embed([[5, 6]])


@pytest.mark.parametrize(
    ("tokens", "n_ctx", "size"),
    [(1, 8192, 256), (256, 8192, 256), (257, 8192, 512), (2048, 8192, 2048), (300, 400, 400)],
)
def test_the_context_is_as_large_as_the_text_needs(tokens: int, n_ctx: int, size: int) -> None:
    assert embedding_size.embedding_context_size(tokens, n_ctx) == size


def test_the_context_grows_with_the_texts_and_is_given_back(
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 1024, "threads": 1})
    with loader.load(demo_model_path, options, lambda _fraction, _doing: True) as model:
        embedder = model._embedder  # type: ignore[attr-defined]
        short = model.embed([[5, 6, 7]])
        assert embedder._batch.capacity == 256
        model.embed([list(range(5, 400))])
        assert embedder._batch.capacity == 512
        assert np.allclose(model.embed([[5, 6, 7]]), short, atol=1e-3)
        monkeypatch.setattr(embedding, "_IDLE", 0.01)
        model.embed([[5, 6, 7]])
        embedder._alarm.join(30)
        assert embedder._context is None
        embedder._idle(-1)  # an alarm of before
        assert np.allclose(model.embed([[5, 6, 7]]), short, atol=1e-3)


def test_no_room_for_it_is_a_sentence_and_the_model_works(demo_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise ModelFileError("The model", "llama.cpp says: failed to allocate compute pp buffers")

    embedder = embedding.Embedder(demo_model._weights, n_ctx=256, threads=1)  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(embedding, "LlamaContext", full)
        with pytest.raises(Unavailable, match=r"memory for embeddings of up to 256 tokens.*failed to allocate"):
            embedder.embed([[5, 6]], None)
    assert embedder.embed([[5, 6]], None).shape[0] == 1
    embedder.close()
