"""Several models: which ones are unloaded for another, which requests wait, and which model a request gets by name."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from errors import (
    InvalidInput,
    LoadCancelled,
    ModelFileError,
    ModelNotLoaded,
    NoModelLoaded,
    OverModelMemory,
    UnknownName,
    UserError,
)
from loaders.base import Loader, Lora, Model, Progress
from loaders.params import LoadOptions
from modules.config.paths import Paths
from modules.library import model_leases, model_memory
from modules.library.idle_timer import IdleTimer, describe_minutes
from modules.library.model_catalog import ModelCatalog
from modules.library.model_leases import ModelLease
from modules.library.model_manager import ModelManager
from modules.library.model_memory import IdleModel, ModelLimits
from modules.library.model_router import ModelRouter, RoutingRules
from modules.library.model_settings import ModelSettings
from modules.library.model_state import ModelState

Make = Callable[..., ModelManager]

ADAPTER = Lora(Path("adapter"), 0.5)


class Loading:
    """Loads models on request; each takes `memory` bytes, and `lost` contains the callbacks that report their loss."""

    def __init__(self) -> None:
        self.memory = 0
        self.lost: list[Callable[[str], None]] = []
        self.broken: set[str] = set()
        self.refuses = False  # adapters

    def __call__(self, loader: type[Loader], path: Path, options: LoadOptions, progress: Progress) -> Model:
        if path.stem in self.broken:
            raise ModelFileError(path.name, "it is a test.")
        model: Any = loader.load(path, options, progress)
        model.memory = self.memory
        model.on_lost = self.lost.append

        def set_loras(loras: Sequence[Lora]) -> None:
            if self.refuses:
                raise InvalidInput("it is a test")
            model.loras = tuple(loras)

        model.set_loras = set_loras
        return model


@pytest.fixture
def loading() -> Loading:
    return Loading()


@pytest.fixture
def make(
    paths: Paths, shelf: ModelCatalog, model_settings: ModelSettings, loaders: Mapping[str, type[Loader]], gguf: Any,
    loading: Loading,
) -> Iterator[Make]:  # fmt: skip
    for name in ("a", "b", "c"):
        gguf(f"{name}.gguf")
    made: list[ModelManager] = []

    def make(count: int = 1, memory: int = 0) -> ModelManager:
        limits = ModelLimits(count, memory)
        made.append(ModelManager(paths, shelf, model_settings, loaders, {}, load=loading, limits=limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


def names(models: ModelManager) -> list[str]:
    """The models in memory, the default one first."""
    return [each.name.removesuffix(".gguf") for each in models.memory.all]


def router(models: ModelManager, shelf: ModelCatalog, **rules: Any) -> ModelRouter:
    return ModelRouter(models, shelf, RoutingRules(**rules))


def chosen(lease: ModelLease) -> str:
    return lease.model.name.removesuffix(".gguf")


def test_the_least_recently_used_one_makes_room(make: Make) -> None:
    models = make(2)
    first: Any = models.load("a")
    second: Any = models.load("b")
    assert names(models) == ["b", "a"]
    assert models.current() is second
    assert models.memory.lease("a")
    models.load("c")
    assert (first.closed, second.closed) == (0, 1)
    assert models.state.name == "c.gguf"
    models.unload("c")
    assert models.state.name == "a.gguf"
    assert models.current() is first
    with pytest.raises(UnknownName):
        models.unload("b")
    models.unload()
    assert first.closed == 1
    assert models.state.phase == "none"


def test_memory_is_a_limit_too(make: Make, loading: Loading, paths: Paths) -> None:
    size = (paths.models / "a.gguf").stat().st_size
    models, loading.memory = make(3, memory=3 * size), size
    for name in ("a", "b", "c"):
        models.load(name)
    assert names(models) == ["c", "b", "a"]
    loading.memory = 2 * size
    models.load("a")
    assert names(models) == ["a", "c", "b"]
    models.load("b")
    assert names(models) == ["b", "a"]
    with pytest.raises(OverModelMemory):
        make(3, memory=size - 1).load("a")


@pytest.mark.parametrize(
    ("rules", "name", "answers", "note"),
    [
        ({}, "", "a", ""),
        ({}, "A.gguf", "a", ""),
        ({}, "b", "a", "b.gguf is not loaded"),
        ({}, "gpt-4", "a", "no model named 'gpt-4'"),
        ({"on_demand": True}, "models/b", "b", ""),
        ({"on_demand": True}, "gpt-4", "a", "no model named 'gpt-4'"),
        ({"strict": True}, "a", "a", ""),
        ({"strict": True}, "b", ModelNotLoaded, ""),
        ({"strict": True}, "gpt-4", UnknownName, ""),
        ({"strict": True, "on_demand": True}, "b", "b", ""),
    ],
)
def test_a_name_finds_its_model_or_says_why_not(
    make: Make, shelf: ModelCatalog, rules: dict[str, Any], name: str, answers: Any, note: str
) -> None:
    models = make(2)
    models.load("a")
    route = router(models, shelf, **rules)
    if not isinstance(answers, str):
        with pytest.raises(answers):
            route.choose(name)
        return
    lease = route.choose(name)
    assert chosen(lease) == answers
    assert note in lease.note
    assert bool(lease.note) == bool(note)
    assert models.state.name == "a.gguf"  # a request does not change which model answers requests without a name
    assert route.ready(name) or name == "gpt-4"  # an unknown name is looked up in the folder


def test_with_one_model_a_name_counts_for_nothing(make: Make, shelf: ModelCatalog) -> None:
    models = make()
    route = router(models, shelf)
    with pytest.raises(NoModelLoaded):
        route.choose("a")
    models.load("a")
    for name in ("", "b", "gpt-4"):
        lease = route.choose(name)
        assert (chosen(lease), lease.note) == ("a", "")


def test_a_model_in_use_is_waited_for(make: Make, shelf: ModelCatalog) -> None:
    models = make()
    first: Any = models.load("a")
    route = router(models, shelf, on_demand=True)
    held = [route.choose("a")]
    found: list[str] = []

    def ask(name: str) -> None:
        found.append(chosen(route.choose(name)))

    other = threading.Thread(target=ask, args=("b",))
    other.start()
    while not models.memory.all[0].leaving:
        time.sleep(0.001)
    behind = threading.Thread(target=ask, args=("a",))  # it does not overtake the others
    behind.start()
    inside = route.choose()  # part of the request that holds it
    assert inside.model is first
    time.sleep(0.05)
    assert (first.closed, found) == (0, [])
    held.clear()
    del inside
    other.join(10)
    behind.join(10)
    assert found == ["b", "a"]
    assert first.closed == 1


def test_an_unload_can_wait_for_what_runs(make: Make) -> None:
    models = make()
    model: Any = models.load("a")
    held = [models.memory.leases.begin(model)]
    thread = threading.Thread(target=models.unload, kwargs={"wait": 30.0})
    thread.start()
    while models.state.phase != "unloading":
        time.sleep(0.001)
    assert models.loaded is None  # nothing else starts
    time.sleep(0.05)
    assert model.closed == 0
    held.clear()
    thread.join(10)
    assert model.closed == 1
    model = models.load("a")
    held.append(models.memory.leases.begin(model))
    models.unload(wait=0.05)  # not longer than that
    models.load("a")
    models.unload()  # without waiting


def test_the_end_of_a_lease_wakes_who_waits_for_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_leases, "_LOOK", 3600.0)  # who only looks again after that does not see it
    models = make()
    model: Any = models.load("a")
    leases = models.memory.leases
    held = [leases.begin(model), leases.begin(model)]
    assert not leases.wait(model, 0)
    free: list[bool] = []
    waiting = threading.Thread(target=lambda: free.append(leases.wait(model, 3600)), daemon=True)
    waiting.start()
    held.pop()
    assert leases.held(model)
    circle: list[Any] = [held.pop()]  # as in an error's traceback: the garbage collector ends it
    circle.append(circle)
    del circle
    gc.collect()
    waiting.join(30)
    assert free == [True]


def test_to_forget_reaches_every_model_and_then_every_loader(
    make: Make, loaders: Mapping[str, type[Loader]], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, told = make(2), list[tuple[str, str]]()
    for name in ("a", "b"):
        model: Any = models.load(name)
        monkeypatch.setattr(model, "forget", lambda label, name=name: told.append((name, label)), raising=False)
    for name, loader in loaders.items():
        monkeypatch.setattr(loader, "forget", lambda label, name=name: told.append((name, label)))
    models.forget("chat")
    assert sorted(told[:2]) == [("a", "chat"), ("b", "chat")]
    assert sorted(told[2:]) == [(name, "chat") for name in sorted(loaders)]


def test_a_request_without_a_lease_is_waited_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    models = make()
    model: Any = models.load("a")
    looks = [["a request"], ["a request"], []]
    monkeypatch.setattr(model_leases, "_LOOK", 0.001)
    monkeypatch.setattr(model, "queue", lambda: looks.pop(0))
    assert models.memory.leases.wait(model, 60)
    monkeypatch.setattr(model, "queue", lambda: ["a request"])
    assert not models.memory.leases.wait(model, 0.01)


def test_who_waits_for_the_other_models_does_not_wait_for_its_own(make: Make, shelf: ModelCatalog) -> None:
    models = make(2)
    first, second = models.load("a"), models.load("b")
    route = router(models, shelf)
    held = [route.choose("a")]
    assert route.wait_for_others(first, 0)
    assert not route.wait_for_others(second, 0)
    held.clear()
    assert route.wait_for_others(second, 60)


def test_what_is_idle_leaves_and_comes_back(make: Make, shelf: ModelCatalog) -> None:
    models = make()
    first: Any = models.load("a", options={"n_ctx": 128})
    held = [router(models, shelf).choose()]
    models.unload_idle(0)
    assert first.closed == 0
    held.clear()
    models.unload_idle(3600)
    assert first.closed == 0
    models.unload_idle(0)
    assert first.closed == 1
    assert models.loaded is None
    assert models.state.idle == "a.gguf"
    again: Any = models.current()
    assert again.options.model_dump()["n_ctx"] == 128
    assert models.state.name == "a.gguf"
    models.unload_idle(0)
    models.unload()
    assert models.state.idle == ""
    with pytest.raises(NoModelLoaded):
        models.current()


def test_an_idle_model_of_several_comes_back_by_its_name(make: Make, shelf: ModelCatalog) -> None:
    models = make(2)
    models.load("a")
    models.load("b")
    models.unload_idle(0)
    route = router(models, shelf)
    assert route.names() == ["b.gguf", "a.gguf"]
    assert chosen(route.choose("a")) == "a"
    assert chosen(route.choose("b")) == "b"


def test_embeddings_have_a_model_of_their_own(make: Make, shelf: ModelCatalog) -> None:
    models = make()
    chat = models.load("a")
    route = router(models, shelf, embeddings="b")
    assert chosen(route.choose_for_embeddings()) == "b"
    assert chosen(route.choose_for_embeddings("text-embedding-3-small")) == "b"
    assert models.loaded is chat
    assert sorted(names(models)) == ["a", "b"]
    models.load("c")  # b stays, because it does not count towards the limit
    assert sorted(names(models)) == ["b", "c"]
    models.unload("c")
    with pytest.raises(NoModelLoaded):
        models.current()


@pytest.mark.parametrize(
    ("rules", "name", "answers", "note"),
    [
        ({}, "", "b", ""),
        ({}, "b", "b", ""),
        ({}, "a", "a", ""),
        ({}, "c", "b", "c.gguf is not loaded"),
        ({}, "gpt-4", "b", "no model named 'gpt-4'"),
        ({"on_demand": True}, "c", "c", ""),
        ({"strict": True}, "B.gguf", "b", ""),
        ({"strict": True}, "c", ModelNotLoaded, ""),
        ({"strict": True}, "gpt-4", UnknownName, ""),
    ],
)
def test_names_count_for_embeddings_as_for_chats(
    make: Make, shelf: ModelCatalog, rules: dict[str, Any], name: str, answers: Any, note: str
) -> None:
    models = make(2)
    models.load("a")
    route = router(models, shelf, embeddings="b", **rules)
    if not isinstance(answers, str):
        with pytest.raises(answers):
            route.choose_for_embeddings(name)
        return
    lease = route.choose_for_embeddings(name)
    assert chosen(lease) == answers
    assert note in lease.note
    assert bool(lease.note) == bool(note)
    assert models.memory.all[-1].for_embeddings is (answers == "b")


@pytest.mark.parametrize("for_request", [False, True])
def test_no_model_for_embeddings_is_outside_of_the_limit_of_memory(
    make: Make, shelf: ModelCatalog, loading: Loading, paths: Paths, for_request: bool
) -> None:
    size = (paths.models / "a.gguf").stat().st_size
    models, loading.memory = make(3, memory=2 * size), size
    route = router(models, shelf, embeddings="b", on_demand=True)
    models.load("a")
    route.choose_for_embeddings()
    assert sorted(names(models)) == ["a", "b"]  # there is room
    models.load("c")
    assert sorted(names(models)) == ["b", "c"]  # chat models leave first
    models.unload("c")
    models.memory.all[0].model.memory = 2 * size  # type: ignore[misc]
    if for_request:
        route.choose("a")
    else:
        models.load("a")
    assert names(models) == ["a"]
    assert chosen(route.choose_for_embeddings()) == "b"


def test_the_timer_asks_again_and_again() -> None:
    asked: list[float] = []
    twice = threading.Event()

    def unload_idle(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 2:
            twice.set()

    timer = IdleTimer(unload_idle, 0.001)
    assert twice.wait(10)
    timer.close()
    assert asked[0] == pytest.approx(0.06)


def test_a_load_for_a_request_that_fails_leaves_the_old_model_to_the_next_one(
    make: Make, shelf: ModelCatalog, loading: Loading
) -> None:
    models = make()
    models.load("a")
    loading.broken.add("b")
    route = router(models, shelf, on_demand=True)
    with pytest.raises(ModelFileError):
        route.choose("b")
    assert "it is a test" in models.state.error
    assert chosen(route.choose()) == "a"


def test_each_model_that_is_lost_comes_back(make: Make, loading: Loading) -> None:
    models = make(2)
    models.load("a")
    models.load("b")
    for lost in loading.lost[:2]:
        lost("a test")
    for thread in threading.enumerate():
        if thread.name == "recovery":
            thread.join(30)
    assert sorted(names(models)) == ["a", "b"]


@pytest.mark.parametrize(
    ("count", "memory", "meanwhile", "left"),
    [
        (3, 3, "c", "bc"),  # what was loaded meanwhile takes its memory
        (3, 4, "c", "abc"),
        (2, 9, "c", "bc"),  # or its place
        (3, 9, "a", "ab"),  # or it is back already
    ],
)
def test_a_lost_model_stays_away_if_there_is_no_room_for_it_any_more(
    make: Make, loading: Loading, paths: Paths, count: int, memory: int, meanwhile: str, left: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    size = (paths.models / "a.gguf").stat().st_size
    models, loading.memory = make(count, memory=memory * size), size
    models.load("b")
    models.load("a")
    recover: list[Callable[[], object]] = []
    monkeypatch.setattr(models._recovery, "start", lambda _, load: recover.append(load))
    loading.lost[1]("a test")
    loading.memory = 2 * size if meanwhile == "c" else size
    models.load_for_request(meanwhile)
    recover[0]()
    assert "".join(sorted(names(models))) == left
    assert models.state.phase == "loaded"


@pytest.fixture(params=["idle", "lost"])
def away(request: pytest.FixtureRequest, make: Make, loading: Loading, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A manager whose default model a has left by itself, beside b; and what lets it come back, if it was lost."""
    models = make(3)
    models.load("b")
    models.load("a")
    begun: list[Callable[[], None]] = []
    start = models._recovery.start
    monkeypatch.setattr(models._recovery, "start", lambda name, load: begun.append(lambda: start(name, load)))
    if request.param == "lost":
        loading.lost[1]("a test")
    else:
        models.memory.all[1].used += 3600
        models.memory.all[0].used -= 3600
        models.unload_idle(600)
    assert names(models) == ["b"]

    def come_back() -> None:
        for begin in begun:
            begin()
        for thread in threading.enumerate():
            if thread.name == "recovery":
                thread.join(30)

    return models, come_back


def test_a_default_model_that_comes_back_is_not_replaced_meanwhile(away: Any, shelf: ModelCatalog) -> None:
    models, come_back = away
    route = router(models, shelf)
    assert chosen(route.choose("b")) == "b"
    assert (models.loaded, route.ready(), route.ready("b")) == (None, False, True)
    found: list[str] = []
    waiting = threading.Thread(target=lambda: found.append(chosen(route.choose())), daemon=True)
    waiting.start()
    come_back()
    waiting.join(30)
    assert found == ["a"]
    assert names(models)[0] == "a"
    assert models.state.name == "a.gguf"


@pytest.mark.parametrize("named", ["a", "b", "c"])
def test_a_request_by_name_while_the_default_model_is_away_changes_no_default(
    away: Any, shelf: ModelCatalog, named: str
) -> None:
    models, come_back = away
    models.load_for_request(named)
    come_back()
    assert chosen(router(models, shelf).choose()) == "a"
    assert names(models)[0] == "a"


@pytest.mark.parametrize("gone", ["unloaded", "broken", "another"])
def test_a_default_model_that_does_not_come_back_is_replaced(
    away: Any, shelf: ModelCatalog, loading: Loading, gone: str
) -> None:
    models, come_back = away
    lost = not models.memory.all_idle
    route = router(models, shelf)
    if gone == "unloaded":
        models.unload("a")
    elif gone == "broken":
        loading.broken.add("a")
    else:
        models.load_for_request("c") if lost else models.load("c")
        models.limits = ModelLimits(2)
    come_back()
    if gone == "broken" and not lost:
        with pytest.raises(ModelFileError):
            route.choose()
        models.unload("a")
    assert chosen(route.choose()) in "bc"
    assert models.state.phase == "loaded"
    assert models.state.name == models.memory.all[0].name


@pytest.mark.parametrize("count", [1, 2])
def test_many_swaps_and_no_wrong_model(make: Make, shelf: ModelCatalog, count: int) -> None:
    models = make(count)
    route = router(models, shelf, on_demand=True)
    wrong: list[object] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            name = chance.choice("abc")
            try:
                lease: Any = route.choose(name)
                if chosen(lease) != name or lease.model.closed:
                    wrong.append((name, chosen(lease), lease.model.closed))
                time.sleep(chance.uniform(0, 0.002))
                if lease.model.closed:
                    wrong.append((name, "closed while it was held"))
            except LoadCancelled:
                raise
            except UserError as error:
                wrong.append(error)
            del lease

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
    assert len(models.memory.all) <= count


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0.05, "3 seconds"), (1 / 60, "1 second"), (0.5, "30 seconds"), (1, "1 minute"), (1.5, "1.5 minutes"),
     (90, "90 minutes"), (1440, "1,440 minutes")],
)  # fmt: skip
def test_how_long_it_was_not_used_is_said(minutes: float, words: str) -> None:
    assert describe_minutes(minutes) == words


def test_the_log_says_why_an_idle_model_left(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    models = make()
    models.load("a")
    with caplog.at_level("INFO"):
        models.memory.all[0].used -= 60
        models.unload_idle(30)
    assert "a.gguf: not used for 30 seconds" in caplog.text


def test_a_timer_outlives_a_failed_check() -> None:
    twice = threading.Event()
    asked: list[float] = []

    def unload_idle(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 2:
            twice.set()
        raise RuntimeError("a test")

    timer = IdleTimer(unload_idle, 0.001)
    assert twice.wait(10)
    timer.close()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_who_comes_while_an_idle_model_is_being_unloaded_waits_for_it(
    make: Make, shelf: ModelCatalog, named: bool, strict: bool
) -> None:
    models = make(2)
    leaving: Any = models.load("a")
    closing, go_on = threading.Event(), threading.Event()
    close = leaving.close

    def slowly() -> None:
        closing.set()
        assert go_on.wait(60)
        close()

    leaving.close = slowly
    route, got = router(models, shelf, strict=strict), list[ModelLease]()
    unloading = threading.Thread(target=models.unload_idle, args=(0,))
    unloading.start()
    assert closing.wait(60)
    asking = threading.Thread(target=lambda: got.append(route.choose("a" if named else "")))
    asking.start()
    asking.join(0.2)
    assert asking.is_alive(), "it was refused at once"
    go_on.set()
    asking.join(60)
    unloading.join(60)
    assert [chosen(each) for each in got] == ["a"]
    assert got[0].model is not leaving


@pytest.mark.parametrize("strict", [False, True])
def test_a_request_that_names_a_lost_model_waits_for_its_return(
    make: Make, shelf: ModelCatalog, loading: Loading, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    models = make(2)
    lost = models.load("a")
    models.load("b")
    route, may_load, load = router(models, shelf, strict=strict), threading.Event(), models._loading.load

    def later(*given: Any, **options: Any) -> Any:
        assert may_load.wait(60)
        return load(*given, **options)

    monkeypatch.setattr(models._loading, "load", later)
    loading.lost[0]("it is a test")
    assert not route.ready("a"), "the API's short threads must not wait"
    assert route.ready("b")
    got: list[ModelLease] = []
    asking = threading.Thread(target=lambda: got.append(route.choose("a")))
    asking.start()
    assert chosen(route.choose("b")) == "b"
    asking.join(0.2)
    assert asking.is_alive()
    may_load.set()
    asking.join(60)
    assert [chosen(each) for each in got] == ["a"]
    assert got[0].model is not lost
    assert not got[0].note


#: Names of two models that differ only in what a loose comparison leaves out: the loaded one and the one that is meant.
ALIKE = [("twin.gguf", "twin"), ("twin", "twin.gguf"), ("Twin", "twin.gguf"), ("TWIN.gguf", "twin")]


@pytest.fixture
def twins(request: pytest.FixtureRequest, gguf: Any) -> tuple[str, str]:
    """Two such models in the folder: a name without an ending is a folder with one file."""
    for name in request.param:
        gguf(name if name.endswith(".gguf") else f"{name}/model.gguf")
    return request.param


@pytest.mark.parametrize("twins", ALIKE, indirect=True)
@pytest.mark.parametrize("idle", [False, True])
def test_an_exact_name_means_that_model_and_no_other_one(
    make: Make, shelf: ModelCatalog, twins: tuple[str, str], idle: bool
) -> None:
    loaded, meant = twins
    models = make()
    models.load(loaded)
    if idle:
        models.unload_idle(0)
    with pytest.raises(UnknownName):
        models.unload(meant)
    with pytest.raises(ModelNotLoaded):
        router(models, shelf, strict=True).choose(meant)
    assert router(models, shelf, on_demand=True).choose(meant).name == meant
    assert router(models, shelf, on_demand=True).choose(loaded).name == loaded


@pytest.mark.parametrize("twins", ALIKE, indirect=True)
def test_only_the_load_of_the_named_model_is_cancelled(make: Make, twins: tuple[str, str]) -> None:
    loaded, meant = twins
    models = make()
    models.load(meant)
    models.memory.set_state(ModelState("loading", loaded))
    assert models.cancel_load(meant) == ""
    assert models.cancel_load(loaded) == loaded


def test_without_an_exact_name_any_spelling_will_do(make: Make, shelf: ModelCatalog) -> None:
    models = make()
    models.load("a")
    route = router(models, shelf, strict=True)
    for name in ("A", "models/a", "a.GGUF", "models/A.gguf"):
        assert chosen(route.choose(name)) == "a"


@pytest.mark.parametrize("changed", [False, True])
def test_a_model_that_left_for_another_one_comes_back_as_it_was(
    make: Make, shelf: ModelCatalog, model_settings: ModelSettings, changed: bool
) -> None:
    models = make()
    models.load("a", options={"n_ctx": 128}).set_loras([ADAPTER])
    route = router(models, shelf, on_demand=True)
    route.choose("b")
    if changed:
        model_settings.keep("a.gguf", {"n_ctx": 256})
    again: Any = route.choose("a").model
    assert again.options.model_dump()["n_ctx"] == (256 if changed else 128)
    assert tuple(again.loras) == (ADAPTER,)
    route.choose("b")
    models.unload("b")
    models.unload()  # by hand: as its settings say from then on
    assert tuple(route.choose("a").model.loras) == ()


def test_only_the_last_models_that_left_are_remembered(make: Make) -> None:
    models = make()
    models.load("a")
    plan = models.memory.all[0].plan
    known = [f"{n}" for n in range(model_memory._MOST_LEFT + 3)]
    left = [IdleModel(replace(plan, item=replace(plan.item, name=name)), name) for name in known]
    models.memory.remember_left(left)
    assert [name for name in known if models.memory.left(name) is None] == known[:3]


@pytest.mark.parametrize("swapped", [False, True])
def test_adapters_that_no_longer_fit_leave_a_note_and_the_request_is_answered(
    make: Make, shelf: ModelCatalog, loading: Loading, swapped: bool
) -> None:
    models = make()
    models.load("a").set_loras([ADAPTER])
    route = router(models, shelf, on_demand=True)
    if swapped:
        route.choose("b")
    else:
        models.unload_idle(0)
    loading.refuses = True
    assert chosen(route.choose("a")) == "a"
    assert any("adapters could not be applied again: it is a test" in note for note in models.state.notes)
