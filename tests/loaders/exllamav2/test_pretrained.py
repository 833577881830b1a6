"""transformers' own generate on ExLlamaV2: greedy replies equal the native ones, and the prefix is not read again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.loaders.exllamav2.test_engine import words

card = pytest.importorskip("tests.loaders.exllamav2.card", reason="needs torch")
transformers = pytest.importorskip("transformers")


def wrapped(opens: Any) -> Any:
    from loaders.exllamav2.pretrained import ExLlamaV2ForCausalLM

    weights = opens(paged=False)._weights
    return ExLlamaV2ForCausalLM(transformers.PretrainedConfig(vocab_size=card.N_VOCAB), weights, "f16", cfg_cache=True)


def generate(model: Any, ids: list[int], count: int, **more: Any) -> list[int]:
    import torch

    out = model.generate(
        torch.tensor([ids]),
        do_sample=False,
        max_new_tokens=count,
        suppress_tokens=[card.IM_END],
        pad_token_id=0,
        **more,
    )
    return list(out[0, len(ids) :].tolist())


def test_generate_says_what_the_network_says(opens: Any) -> None:
    model = wrapped(opens)
    for length in (1, 30, 300, 700):
        assert generate(model, words(length, length), 8) == card.greedy(words(length, length), 8)


def test_transformers_own_guidance_is_refused_aloud(opens: Any) -> None:
    import torch

    prompt, negative = words(1, 40), words(2, 9)
    more = {"guidance_scale": 1.5, "negative_prompt_ids": torch.tensor([negative])}
    with pytest.raises(ValueError, match="mix the logits of both branches"):
        generate(wrapped(opens), prompt, 6, **more)


def test_a_longer_prompt_reads_what_is_new_alone(opens: Any) -> None:
    model = wrapped(opens)
    prompt = words(1, 300)
    said = generate(model, prompt, 5)
    chunks = model.decoder._weights.model.chunks
    chunks.clear()
    longer = [*prompt, *said, 65, 66, 67]
    assert generate(model, longer, 5) == card.greedy(longer, 5)
    assert sum(tokens for _, tokens in chunks) < 12


def test_all_positions(opens: Any) -> None:
    import numpy as np
    import torch

    ids = words(2, 600)
    logits = wrapped(opens)(torch.tensor([ids]), logits_to_keep=0).logits
    assert logits.shape == (1, 600, card.N_VOCAB)
    for at in (0, 255, 256, 599):
        np.testing.assert_allclose(logits[0, at].numpy(), card.logits_after(ids[: at + 1]), atol=1e-3)


def test_the_negative_branch_has_a_cache_of_its_own(opens: Any) -> None:
    import torch

    model = wrapped(opens)
    a, b = words(1, 40), words(2, 40)
    for _ in range(2):
        model(torch.tensor([a]))
        model(torch.tensor([b]), past_key_values=model.negative_branch())
    assert [tokens for _, tokens in model.decoder._weights.model.chunks[-2:]] == [1, 1]
