"""What yielding requests have read is used and equals a cold start, for every kind of memory; so does what was there
before them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loaders.base import Model, Request
from loaders.llamacpp.engine import prompt_chunking
from loaders.params import SamplingParams
from tests.zoo.compare import difference, reply
from tests.zoo.test_gguf import ARCHITECTURES, ROUNDING
from tests.zoo.test_warm_starts import MESSAGE, PROMPT, load

GREEDY = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ahead")


def read_ahead(model: Model, ids: list[int], new: int = 1) -> Any:
    stream = model.generate(Request(ids, GREEDY, new, yields=True))
    list(stream)
    return stream.report


def cases() -> list[tuple[str, dict[str, Any]]]:
    more: list[dict[str, Any]] = [
        {"separate_contexts": True},
        {"swa_full": False},
        {"ctx_checkpoints": 0},
        {"cache_capacity": "0"},
    ]
    usual: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in ARCHITECTURES]
    return [*usual, *((name, each) for name in ("gemma3", "lfm2") for each in more)]


@pytest.mark.parametrize(("name", "options"), cases(), ids=str)
def test_after_reading_ahead_replies_are_those_of_a_cold_start(
    folder: Path, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_chunking, "_FIRST_PIECE", 7)  # many pieces
    with load(name, folder, kv_disk="0", **options) as model:
        said = reply(model, PROMPT, 12).tokens
        turn = [*PROMPT, *said, *MESSAGE]
        first = read_ahead(model, turn[:-9])
        other = read_ahead(model, [*turn[:-12], 70, 71, 72])  # another wording, which is not sent
        read_ahead(model, PROMPT, 12)  # another version
        read_ahead(model, turn[:-5])
        found, again = reply(model, turn, 12), reply(model, PROMPT, 12)
    with load(name, folder, kv_disk="0") as cold:
        wanted = reply(cold, turn, 12)
        wanted_again = reply(cold, PROMPT, 12)
    assert difference(found, wanted) < ROUNDING
    assert difference(again, wanted_again) < ROUNDING
    assert not first.warnings, "it continues what the cache holds"
    assert first.read_tokens == len(MESSAGE) - 9 + 1
    assert "ahead" in found.reason or other.warnings or "checkpoints" in str(options)
