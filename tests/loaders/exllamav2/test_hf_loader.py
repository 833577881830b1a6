"""The ExLlamav2_HF loader: greedy and guided replies, reuse, adapters, scores, and freed memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import ModelClosed, Unsupported
from loaders.base import Lora, Model, Request
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.loaders.exllamav2.test_engine import GREEDY, GUIDED, guided, say, words

card = pytest.importorskip("tests.loaders.exllamav2.card", reason="needs torch")


@pytest.fixture
def model(gpu: Any, tmp_path: Path) -> Iterator[Model]:
    from loaders.exllamav2_hf.loader import ExLlamaV2HF

    folder = card.write_folder(tmp_path / "models" / "net")
    with ExLlamaV2HF.load(folder, ExLlamaV2HF.Options.parse({"max_seq_len": 1024}), keep_going) as found:
        yield found


@pytest.mark.parametrize("length", [1, 30, 300, 700])
def test_greedy_replies_are_the_networks(model: Model, length: int) -> None:
    prompt = words(length, length)
    assert say(model, prompt, 8)[0] == card.greedy(prompt, 8)


def test_what_was_read_is_not_read_again(model: Model) -> None:
    prompt = words(1, 300)
    said, _ = say(model, prompt, 5)
    longer = [*prompt, *said, 65, 66, 67]
    again, report = say(model, longer, 5)
    assert again == card.greedy(longer, 5)
    assert report.reused_tokens >= len(prompt) + 4


def test_guidance_with_its_own_cache(model: Model) -> None:
    prompt, negative = words(1, 40), words(2, 10)
    first, _ = say(model, prompt, 6, GUIDED, negative_ids=negative)
    assert first == guided(prompt, negative, 6)
    again, report = say(model, prompt, 6, GUIDED, negative_ids=negative)
    assert again == first
    assert report.reused_tokens == len(prompt) - 1


def test_adapters_on_and_off(model: Model, tmp_path: Path) -> None:
    prompt = words(1, 30)
    base, _ = say(model, prompt, 6)
    model.set_loras([Lora(card.write_lora(tmp_path / "a"))])
    changed, report = say(model, prompt, 6)
    assert changed != base
    assert report.reused_tokens == 0
    model.set_loras([])
    assert say(model, prompt, 6)[0] == base


def test_scores_and_what_it_cannot(model: Model) -> None:
    ids = words(3, 400)
    found = model.score(ids)
    for at in (0, 127, 128, 398):
        logits = card.logits_after(ids[: at + 1])
        assert found[at] == pytest.approx(logits[ids[at + 1]] - np.log(np.exp(logits).sum()), abs=1e-2)
    with pytest.raises(Unsupported):
        model.embed([ids])
    assert not model.supports("num_beams")
    assert not model.supports("penalty_alpha")
    assert model.supports("guidance_scale")


def test_generate_of_transformers(model: Model) -> None:
    import torch

    prompt = words(1, 50)
    out = model.pretrained.generate(  # type: ignore[attr-defined]
        torch.tensor([prompt]), do_sample=False, max_new_tokens=6, suppress_tokens=[card.IM_END], pad_token_id=0
    )
    assert out[0, 50:].tolist() == card.greedy(prompt, 6) == say(model, prompt, 6, GREEDY)[0]


def test_closing_gives_all_back(model: Model) -> None:
    weights = model._backend.release.__self__  # type: ignore[attr-defined]
    model.close()
    assert weights.model is None
    assert weights.cache is None
    with pytest.raises(ModelClosed):
        model.generate(Request([1], SamplingParams()))
