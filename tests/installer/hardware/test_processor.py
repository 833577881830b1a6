"""A processor is recognized by its instruction sets, whatever its other flags are."""

from __future__ import annotations

import pytest

from installer.hardware import processor


def mark_of(monkeypatch: pytest.MonkeyPatch, flags: str) -> str:
    monkeypatch.setattr(processor, "_field", lambda key: {"flags": flags, "model name": "Some CPU"}.get(key, ""))
    return processor.cpu_fingerprint()


def test_only_instructions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    base = mark_of(monkeypatch, "fpu sse4_2 avx avx2 fma")
    assert mark_of(monkeypatch, "fma avx2 avx sse4_2 fpu retbleed hypervisor") == base
    assert mark_of(monkeypatch, "fpu sse4_2 avx avx2 fma amx_tile amx_int8") != base
    assert mark_of(monkeypatch, "fpu sse4_2 avx") != base


def test_this_machine_has_a_name() -> None:
    assert processor.cpu_name()
    assert len(processor.cpu_fingerprint()) == 12
