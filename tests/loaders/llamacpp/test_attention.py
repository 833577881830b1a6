"""Which kernel computes attention: what the user says, else what was measured, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loaders.llamacpp import attention
from loaders.llamacpp.attention import Heads, Timing, choose, heads_of
from loaders.llamacpp.context_params import context_params
from loaders.llamacpp.gguf import GGUFHeader, read_header
from loaders.llamacpp.limits import Limits
from loaders.llamacpp.options import LlamaCppOptions


def header(**values: Any) -> GGUFHeader:
    metadata = {"general.architecture": "llama", **{f"llama.{key}": value for key, value in values.items()}}
    return GGUFHeader(Path("m.gguf"), (), 0, metadata, ())


ALIKE = {"embedding_length": 4096, "attention.head_count": 32, "attention.head_count_kv": 8}


@pytest.mark.parametrize(
    ("options", "more", "timing", "chosen", "words"),
    [
        ({}, {}, Timing(2.0, 1.0), "off", "without the flash kernel: 0.50"),
        ({}, {}, Timing(1.0, 0.99), "on", "with the flash kernel: no gain"),
        ({}, {}, None, "auto", "as llama.cpp chooses"),
        ({"flash_attn": "on"}, {}, Timing(2.0, 1.0), "on", ""),
        ({"flash_attn": "off"}, {}, Timing(1.0, 2.0), "off", ""),
        ({"cache_type": "q8_0"}, {}, Timing(2.0, 1.0), "auto", "a cache of q8_0 needs it"),
        ({}, {"exact": True}, Timing(2.0, 1.0), "auto", "do not depend on others"),
        ({}, {"card": True}, Timing(2.0, 1.0), "auto", ""),
    ],
)
def test_the_choice_and_its_reason(
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    more: dict[str, bool],
    timing: Timing | None,
    chosen: str,
    words: str,
) -> None:
    monkeypatch.setattr(attention, "measured", lambda *_: timing)
    found, reason = choose(header(**ALIKE), LlamaCppOptions.parse(options), **{"card": False, "exact": False, **more})
    assert found == chosen
    assert words in reason
    assert bool(reason) == bool(words)


@pytest.mark.parametrize(
    ("values", "heads"),
    [
        (ALIKE, Heads(4, 128, 4)),
        ({**ALIKE, "attention.head_count_kv": 1}, Heads(32, 128)),
        ({**ALIKE, "attention.head_count_kv": [8, 0, 8]}, None),
        ({**ALIKE, "attention.head_count_kv": 0}, None),
        ({**ALIKE, "attention.key_length": 128, "attention.key_length_swa": 64}, None),
        ({"embedding_length": 10, "attention.head_count": "many"}, None),
        ({}, None),
    ],
)
def test_what_is_tried_are_the_models_own_heads(values: dict[str, Any], heads: Heads | None) -> None:
    assert heads_of(header(**values)) == heads


def test_both_kernels_are_timed(demo_model_path: Path) -> None:
    heads = heads_of(read_header(demo_model_path))
    assert heads == Heads(3, 64, 3)
    timing = attention.measured(heads, attention.processor(), 1)
    assert timing is not None
    assert timing.flash > 0 < timing.plain
    assert attention.measured(heads, attention.processor(), 1) is timing


@pytest.mark.parametrize(
    ("heads", "cells", "rows"), [(9, 8192, 512), (32, 8192, 256), (32, 131_072, 64), (1, 512, 512)]
)
def test_without_the_flash_kernel_scores_take_bounded_memory(heads: int, cells: int, rows: int) -> None:
    limits = Limits(parallel=4, n_batch=512)
    options = LlamaCppOptions.parse({})
    assert context_params(options, limits, cells, "f16", "off", heads)["n_ubatch"] == rows
    assert context_params(options, limits, cells, "f16", "auto", heads)["n_ubatch"] == 512
