"""Which kernel computes attention: the user's choice, else the measured one, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loaders.llamacpp import thread_control
from loaders.llamacpp.context_params import context_params
from loaders.llamacpp.engine import attention
from loaders.llamacpp.engine.attention import (
    AttentionHeads,
    KernelTiming,
    KernelTrial,
    attention_heads,
    choose_kernel,
    predict_kernel,
)
from loaders.llamacpp.engine.limits import EngineLimits
from loaders.llamacpp.gguf import GGUFHeader, read_header
from loaders.llamacpp.options import LlamaCppOptions
from loaders.llamacpp.placement import measurements


def header(**values: Any) -> GGUFHeader:
    metadata = {"general.architecture": "llama", **{f"llama.{key}": value for key, value in values.items()}}
    return GGUFHeader(Path("m.gguf"), (), 0, metadata, ())


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests do meanwhile."""
    monkeypatch.setattr(thread_control, "DISTURBING", float("inf"))


ALIKE = {"embedding_length": 4096, "attention.head_count": 32, "attention.head_count_kv": 8}


@pytest.mark.parametrize(
    ("options", "more", "timing", "chosen", "words"),
    [
        ({}, {}, KernelTiming(2.0, 1.0), "off", "without the flash kernel: 0.50"),
        ({}, {}, KernelTiming(1.0, 0.99), "on", "with the flash kernel: no faster without it"),
        ({}, {}, None, "auto", "chosen by llama.cpp"),
        ({"flash_attn": "on"}, {}, KernelTiming(2.0, 1.0), "on", ""),
        ({"flash_attn": "off"}, {}, KernelTiming(1.0, 2.0), "off", ""),
        ({"cache_type": "q8_0"}, {}, KernelTiming(2.0, 1.0), "auto", "required by a cache of type q8_0"),
        ({}, {"exact": True}, KernelTiming(2.0, 1.0), "auto", "what else is in a step"),
        ({}, {"card": True}, KernelTiming(2.0, 1.0), "auto", ""),
    ],
)
def test_the_choice_and_its_reason(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: dict[str, Any],
    more: dict[str, bool],
    timing: KernelTiming | None,
    chosen: str,
    words: str,
) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    monkeypatch.setattr(attention, "time_kernels", lambda *_: timing)
    found, reason = choose_kernel(
        header(**ALIKE), LlamaCppOptions.parse(options), **{"card": False, "exact": False, **more}
    )
    assert found == chosen
    assert words in reason
    assert bool(reason) == bool(words)


@pytest.mark.parametrize(("window", "chosen"), [(128, "auto"), (1024, "auto"), (4096, "off"), (0, "off"), ("x", "off")])
def test_a_short_window_needs_the_kernel_that_skips(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, window: Any, chosen: str
) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    monkeypatch.setattr(attention, "time_kernels", lambda _: KernelTiming(2.0, 1.0))
    model, options = header(**ALIKE, **{"attention.sliding_window": window}), LlamaCppOptions.parse({})
    found, reason = choose_kernel(model, options, card=False, exact=False)
    assert (found, "sliding window" in reason) == (chosen, chosen == "auto")
    assert predict_kernel(model, options, exact=False) == chosen


def test_a_disturbed_measurement_does_not_decide_for_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    chosen = []
    for timing in (KernelTiming(30.0, 1.4), KernelTiming(1.0, 0.95), KernelTiming(1.1, 1.0), KernelTiming(2.0, 0.1)):
        monkeypatch.setattr(attention, "time_kernels", lambda _, timing=timing: timing)
        chosen.append(choose_kernel(header(**ALIKE), LlamaCppOptions.parse({"threads": 2}), card=False, exact=False)[0])
    assert chosen == ["off", "on", "on", "on"]


def test_the_choice_is_the_same_after_a_restart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    chosen = []
    for timing in (KernelTiming(1.0, 0.85), KernelTiming(1.0, 0.95)):  # a busy machine measures otherwise
        monkeypatch.setattr(attention, "time_kernels", lambda _, timing=timing: timing)
        chosen.append(choose_kernel(header(**ALIKE), LlamaCppOptions.parse({"threads": 2}), card=False, exact=False))
    assert chosen[0] == chosen[1]
    # what else matters is measured by itself
    assert choose_kernel(header(**ALIKE), LlamaCppOptions.parse({"threads": 1}), card=False, exact=False)[0] == "on"


@pytest.mark.parametrize(
    ("values", "heads"),
    [
        (ALIKE, AttentionHeads(4, 128, 4)),
        ({**ALIKE, "attention.head_count_kv": 1}, AttentionHeads(32, 128)),
        ({**ALIKE, "attention.head_count_kv": [8, 0, 8]}, AttentionHeads(4, 128, 4)),
        (
            {**ALIKE, "attention.head_count": [32, 0, 32], "attention.head_count_kv": [8, 0, 8]},
            AttentionHeads(4, 128, 4),
        ),
        ({**ALIKE, "attention.head_count_kv": [8, 0, 4]}, None),
        ({**ALIKE, "attention.head_count": [32, 0], "attention.head_count_kv": [8, 0, 8]}, None),
        ({**ALIKE, "attention.head_count_kv": [0, 0]}, None),
        ({**ALIKE, "attention.head_count_kv": 0}, None),
        ({**ALIKE, "attention.key_length": 128, "attention.key_length_swa": 64}, None),
        ({"embedding_length": 10, "attention.head_count": "many"}, None),
        ({}, None),
    ],
)
def test_what_is_tried_are_the_models_own_heads(values: dict[str, Any], heads: AttentionHeads | None) -> None:
    assert attention_heads(header(**values)) == heads


def test_both_kernels_are_timed(demo_model_path: Path) -> None:
    heads = attention_heads(read_header(demo_model_path))
    assert heads == AttentionHeads(3, 64, 3)
    timing = attention.time_kernels(KernelTrial(heads, attention.cpu_name(), 1))
    assert timing is not None
    assert timing.flash > 0 < timing.plain
    assert attention.time_kernels(KernelTrial(heads, attention.cpu_name(), 1, lambda: False)) is timing


@pytest.mark.parametrize(
    ("heads", "cells", "rows"), [(9, 8192, 512), (32, 8192, 256), (32, 131_072, 64), (1, 512, 512)]
)
def test_without_the_flash_kernel_scores_take_bounded_memory(heads: int, cells: int, rows: int) -> None:
    limits = EngineLimits(parallel=4, n_batch=512)
    options = LlamaCppOptions.parse({})
    assert context_params(options, limits, cells, "f16", "off", heads)["n_ubatch"] == rows
    assert context_params(options, limits, cells, "f16", "auto", heads)["n_ubatch"] == 512
