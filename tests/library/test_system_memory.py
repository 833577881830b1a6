"""The badge for a size, by the free memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loaders import gpus
from loaders.gpus import Gpu, GpuMemory
from modules.library import system_memory

GB = 10**9


@pytest.mark.parametrize(
    ("card", "size", "says"),
    [
        (None, 10 * GB, "fits in memory"),
        (None, 20 * GB, "too big"),
        (GpuMemory(8 * GB), 5 * GB, "fits on the GPU"),
        (GpuMemory(8 * GB), 20 * GB, "fits split"),
        (GpuMemory(8 * GB), 30 * GB, "too big"),
        (GpuMemory(12 * GB, shared=True), 10 * GB, "fits on the GPU"),
        (GpuMemory(8 * GB, shared=True), 10 * GB, "fits split"),
        (GpuMemory(12 * GB, shared=True), 20 * GB, "too big"),  # what the card takes, the machine has no more
        (GpuMemory(100 * GB, shared=True), 20 * GB, "too big"),
    ],
)
def test_a_badge(monkeypatch: pytest.MonkeyPatch, card: GpuMemory | None, size: int, says: str) -> None:
    monkeypatch.setattr(system_memory, "free_gpu_memory", lambda: card)
    monkeypatch.setattr(
        system_memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GB, total=32 * GB)
    )
    assert system_memory.SystemMemory().fits(size) == says


def test_it_is_asked_of_llama_cpp_which_plans_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "nvidia_free_memory", lambda: 5)
    monkeypatch.setattr(gpus, "_may_find_cards", lambda: True)
    for found, expected in (
        ((Gpu("Vulkan0", 10, 20), Gpu("Vulkan1", 20, 20)), GpuMemory(30)),
        ((Gpu("Vulkan0", 10, 20, integrated=True),), GpuMemory(10, shared=True)),
        ((), GpuMemory(5)),
    ):
        monkeypatch.setattr(gpus, "list_llama_gpus", lambda found=found: found)
        assert gpus.free_gpu_memory() == expected


def test_a_llama_cpp_for_the_processor_alone_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> tuple[Gpu, ...]:
        raise AssertionError

    monkeypatch.setattr(gpus, "_may_find_cards", lambda: False)
    monkeypatch.setattr(gpus, "list_llama_gpus", ask)
    monkeypatch.setattr(gpus, "nvidia_free_memory", lambda: None)
    assert gpus.free_gpu_memory() is None
