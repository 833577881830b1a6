"""The memory badges, compared with the plan: on simulated GPUs, by the header only, and as shown in the Model tab."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from loaders import LOADERS
from loaders.forecast import DeviceForecast, Forecast
from loaders.gpus import Gpu, GpuMemory
from loaders.llamacpp.placement import planning
from modules.config.paths import Paths
from modules.library import system_memory
from modules.library.fit_badges import FitBadges
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings

MIB = 2**20


@pytest.fixture
def shelf(tmp_path: Path, demo_model_path: Path) -> ModelCatalog:
    (tmp_path / "models").mkdir()
    shutil.copy(demo_model_path, tmp_path / "models" / "demo.gguf")
    return ModelCatalog(Paths.under(tmp_path))


def badges(shelf: ModelCatalog, root: Path) -> tuple[FitBadges, ModelSettings]:
    paths = Paths.under(root)
    saved = ModelSettings(paths)
    return FitBadges(
        ModelManager(paths, shelf, saved, LOADERS, {}), saved, system_memory.SystemMemory(), LOADERS
    ), saved


def use(monkeypatch: pytest.MonkeyPatch, *cards: Gpu, memory: int = 8000) -> None:
    found = GpuMemory(sum(card.free for card in cards), False, cards) if cards else None
    monkeypatch.setattr(system_memory, "free_gpu_memory", lambda: found)
    system = SimpleNamespace(available=memory * MIB, total=16_000 * MIB)
    monkeypatch.setattr(system_memory.psutil, "virtual_memory", lambda: system)


def card(number: int, free: int, total: int = 0) -> Gpu:
    return Gpu(f"CUDA{number}", free * MIB, (total or free) * MIB)


@pytest.mark.parametrize(
    ("cards", "memory", "says"),
    [
        ((), 8000, "fits in memory"),
        ((), 100, "too big"),
        ((card(0, 4000),), 8000, "fits on the GPU"),
        ((card(0, 4000),), 8, "too big"),  # what stays in main memory counts, however much the GPU has free
        ((card(0, 400),), 8000, "fits split"),
        ((card(0, 90),), 8000, "fits in memory"),
        ((card(0, 400), card(1, 400)), 8000, "fits on the GPU"),
        ((card(0, 90), card(1, 90), card(2, 90), card(3, 90)), 8000, "fits in memory"),  # a buffer fits on none of them
    ],
)
def test_a_badge_is_of_cards_one_by_one(
    monkeypatch: pytest.MonkeyPatch, shelf: ModelCatalog, tmp_path: Path, cards: tuple[Gpu, ...], memory: int, says: str
) -> None:
    use(monkeypatch, *cards, memory=memory)
    assert badges(shelf, tmp_path)[0].of(shelf.find("demo")) == says


def test_saved_options_count(monkeypatch: pytest.MonkeyPatch, shelf: ModelCatalog, tmp_path: Path) -> None:
    use(monkeypatch, card(0, 4000))
    found, saved = badges(shelf, tmp_path)
    assert found.of(shelf.find("demo")) == "fits on the GPU"
    saved.keep("demo.gguf", {"n_gpu_layers": 0})
    assert found.of(shelf.find("demo")) == "fits in memory"
    saved.keep("demo.gguf", {"n_gpu_layers": 31, "n_ctx": 8192, "parallel": 40, "separate_contexts": True})
    assert found.of(shelf.find("demo")) == "too big"


def test_what_the_plan_says_is_what_the_badge_says(
    monkeypatch: pytest.MonkeyPatch, shelf: ModelCatalog, tmp_path: Path
) -> None:
    use(monkeypatch)
    found, _ = badges(shelf, tmp_path)
    loader = LOADERS["llama.cpp"]
    told = Forecast((DeviceForecast("memory", 1, 0, 0, 9), DeviceForecast("CUDA0", 1, 0, 0, 9)), "", whole=True)
    monkeypatch.setattr(loader, "forecast", lambda *_: told)
    found.forecast("demo.gguf", "llama.cpp", {"n_ctx": 512})
    assert found.of(shelf.find("demo")) == "fits in memory"  # that was for other options
    found.forecast("demo.gguf", "llama.cpp", loader.Options().model_dump())
    assert found.of(shelf.find("demo")) == "fits on the GPU"


def test_a_glance_starts_nothing_and_is_taken_once(
    monkeypatch: pytest.MonkeyPatch, shelf: ModelCatalog, tmp_path: Path
) -> None:
    use(monkeypatch, card(0, 4000))
    looks = 0
    plan = planning.plan_load

    def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return plan(*arguments)  # type: ignore[arg-type]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(planning, "plan_load", counted)
    monkeypatch.setattr("loaders.llamacpp.child_process.ask_child", refuse)
    found, _ = badges(shelf, tmp_path)
    for _ in range(3):
        assert found.of(shelf.find("demo")) == "fits on the GPU"
    assert looks == 1
