"""A model that ends unexpectedly is loaded again once, with its adapters; and waiting requests get it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import LoadCancelled, ModelBusy, ModelClosed, NoModelLoaded
from loaders.base import Loader, Lora, Model, Progress
from loaders.params import LoadOptions
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from modules.library.recovery import Recovery


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Losing:
    """Loads as requested, and keeps each model's listener for its loss."""

    def __init__(self) -> None:
        self.lost: list[Callable[[str], None]] = []
        self.wait: threading.Event | None = None
        self.dies_at_adapters = False
        self.waits_at_adapters = False
        self.at_adapters = threading.Event()

    def __call__(self, loader: type[Loader], path: Path, options: LoadOptions, progress: Progress) -> Model:
        if self.wait:
            self.wait.wait(30)
        model: Any = loader.load(path, options, progress)
        model.on_lost = self.lost.append

        def set_loras(loras: Any) -> None:
            if self.waits_at_adapters:
                self.at_adapters.set()
                for _ in range(500):  # then they are applied
                    if model.closed:
                        raise ModelClosed
                    time.sleep(0.01)
            model.loras = tuple(loras)
            if self.dies_at_adapters:
                self.lost.append(lambda _: None)
                model.on_lost = lambda lost: lost("again")

        model.set_loras = set_loras
        return model


@pytest.fixture
def losing() -> Losing:
    return Losing()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def models(
    paths: Paths, shelf: ModelCatalog, model_settings: ModelSettings, loaders: Any, losing: Losing, clock: Clock,
    gguf: Any,
) -> Iterator[ModelManager]:  # fmt: skip
    gguf("a.gguf")
    gguf("b.gguf")
    manager = ModelManager(paths, shelf, model_settings, loaders, {}, load=losing, recovery=Recovery(60, clock))
    yield manager
    losing.wait = None
    manager.close()


def settle() -> None:
    """Wait until no model is being loaded any more."""
    for thread in threading.enumerate():
        if thread.name == "recovery":
            thread.join(30)


def test_it_is_loaded_again_as_it_was(models: ModelManager, losing: Losing, script: Any) -> None:
    first = models.load("a", options={"n_ctx": 128})
    adapter = Lora(Path("adapter"), 0.5)
    first.set_loras([adapter])
    losing.wait = threading.Event()
    losing.lost[-1]("GGML_ASSERT(n > 0) failed")
    assert models.loaded is None
    assert models.state.phase == "loading"
    assert "GGML_ASSERT" in models.state.again
    with pytest.raises(ModelBusy):
        models.load("b")
    found: list[Model] = []
    waiting = threading.Thread(target=lambda: found.append(models.current()), daemon=True)
    waiting.start()
    losing.wait.set()
    waiting.join(30)
    again = models.current()
    assert found == [again]
    assert again is not first
    assert tuple(again.loras) == (adapter,)
    assert script.loads[0] == script.loads[1]
    assert "GGML_ASSERT" in models.state.notes[0]
    assert "again" in models.state.notes[0]


@pytest.mark.parametrize(("seconds", "again"), [(1, False), (59, False), (61, True)])
def test_it_is_not_loaded_in_a_loop(
    models: ModelManager, losing: Losing, clock: Clock, seconds: float, again: bool
) -> None:
    models.load("a")
    losing.lost[-1]("first")
    settle()
    clock.now += seconds
    losing.lost[-1]("second")
    settle()
    assert (models.loaded is not None) is again
    if not again:
        assert "second" in models.state.error
        with pytest.raises(NoModelLoaded):
            models.current()
        models.load("a")  # by hand: earlier losses do not count
        losing.lost[-1]("third")
        settle()
        assert models.loaded


def test_one_that_is_lost_while_it_comes_back_is_left_alone(models: ModelManager, losing: Losing) -> None:
    models.load("a").set_loras([Lora(Path("adapter"))])
    losing.dies_at_adapters = True
    losing.lost[0]("first")
    settle()
    assert "manually" in models.state.error
    assert models.loaded is None


def test_one_that_cannot_be_loaded_again_says_why(models: ModelManager, losing: Losing, script: Any) -> None:
    models.load("a")
    script.error = OSError("no memory")
    losing.lost[-1]("first")
    settle()
    assert "no memory" in models.state.error
    with pytest.raises(NoModelLoaded):
        models.current()


def test_one_that_was_unloaded_while_it_comes_back_does_not(models: ModelManager, losing: Losing, script: Any) -> None:
    models.load("a")
    with models._work:  # it cannot begin yet
        losing.lost[-1]("first")
        assert models.state.phase == "loading"
        assert models.cancel_load("A") == "a.gguf"
    settle()
    assert models.loaded is None
    assert "first" in models.state.error
    assert len(script.loads) == 1


def test_one_that_has_left_is_not_missed(models: ModelManager, losing: Losing) -> None:
    models.load("a")
    second = models.load("b")
    losing.lost[0]("late")
    assert models.loaded is second
    models.unload()
    losing.lost[1]("late")
    assert models.state.phase == "none"
    assert models.state.error == ""


def cancel_named(models: ModelManager) -> None:
    assert models.cancel_load("a") == "a.gguf"


@pytest.mark.parametrize("end", [cancel_named, ModelManager.unload, ModelManager.close])
@pytest.mark.parametrize("why", ["lost", "idle"])
def test_a_load_can_be_cancelled_while_adapters_are_applied_again(
    models: ModelManager, losing: Losing, why: str, end: Callable[[ModelManager], object]
) -> None:
    models.load("a").set_loras([Lora(Path("adapter"))])
    losing.waits_at_adapters = True
    raised: list[type[BaseException]] = []

    def request() -> None:
        try:
            models.current()
        except (LoadCancelled, NoModelLoaded) as error:
            raised.append(type(error))

    if why == "lost":
        losing.lost[0]("a test")
    else:
        models.unload_idle(0)
    asking = threading.Thread(target=request, daemon=True)
    asking.start()
    assert losing.at_adapters.wait(30)
    end(models)
    asking.join(30)
    settle()
    assert raised
    assert models.loaded is None
    assert models.state.phase == "none"
