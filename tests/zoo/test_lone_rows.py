"""With contexts apart, a reply's logits are the same to the bit whether drafts are checked or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from loaders import loader_named
from loaders.base import Model, Request
from loaders.drafting.policy import DraftPolicy
from loaders.params import SamplingParams
from tests.conftest import keep_going
from tests.zoo import ggufs

NAMES = ("llama", "gemma3", "qwen3moe")
#: Below and beyond the length from which on the flash kernel divides the cache for a lone row.
LENGTHS = (60, 300)

Load = Callable[[str], Model]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    models: dict[str, Model] = {}
    folder = tmp_path_factory.mktemp("lone")

    def loaded(name: str) -> Model:
        if name not in models:
            loader = loader_named("llama.cpp")
            given = {"n_ctx": 1024, "threads": 1, "threads_batch": 1, "separate_contexts": True, "cache_capacity": "0"}
            models[name] = loader.load(ggufs.make(name, folder), loader.Options.parse(given), keep_going)
        return models[name]

    yield loaded
    for model in models.values():
        model.close()


def prompt(length: int, start: int = 0) -> list[int]:
    return [40 + (start + at) % 12 for at in range(length)]


def replied(model: Model, ids: list[int], **params: int) -> list[tuple[int, float | None]]:
    """The tokens and their log-probabilities."""
    model.set_loras([])  # nothing is reused
    asked = SamplingParams(temperature=0.0, seed=1, **params)
    tokens = model.generate(Request(ids, asked, 40, alternatives=1))
    found = [(token.id, token.logprob) for token in tokens]
    assert tokens.report.reused_tokens == 0
    if params:
        assert tokens.report.accepted_tokens
    return found


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", NAMES)
def test_drafts_change_no_bit(load: Load, monkeypatch: pytest.MonkeyPatch, name: str, length: int) -> None:
    monkeypatch.setattr(DraftPolicy, "length", lambda self, kind, lengths, *_: max(lengths))  # whatever it costs here
    model = load(name)
    assert replied(model, prompt(length), prompt_lookup_num_tokens=6) == replied(model, prompt(length))
