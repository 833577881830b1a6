"""One loaded model, many threads using it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from errors import (
    InvalidInput,
    LoadCancelled,
    ModelBusy,
    ModelFileError,
    NoModelLoaded,
    Unavailable,
    UnknownName,
    UserError,
)
from loaders import LOADERS
from loaders.base import Loader
from loaders.knobs import knob
from modules.config.paths import Paths
from modules.library.last_model import LastModelFile
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings
from modules.library.model_state import LoaderChoice, ModelState
from tests.library.conftest import FakeModel, FakeOptions

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _two_models(gguf: Make) -> None:
    gguf("a.gguf")
    gguf("b.gguf")


def test_nothing_is_loaded_at_first(models: ModelManager) -> None:
    assert models.state == ModelState()
    assert models.loaded is None
    with pytest.raises(NoModelLoaded):
        models.current()


def test_loading_says_so_and_gives_the_model(models: ModelManager, paths: Paths) -> None:
    model = models.load("a")
    assert models.current() is model
    assert models.state == ModelState("loaded", "a.gguf", "fake", 1.0, notes=("as asked",))
    assert LastModelFile(paths).read().name == "a.gguf"


def test_the_old_model_leaves_before_the_new_one_comes(models: ModelManager, script: Any) -> None:
    old: Any = models.load("a")
    script.wait = threading.Event()
    thread = threading.Thread(target=models.load, args=("b",))
    thread.start()
    assert script.waiting.wait(10)
    assert old.closed == 1
    assert models.loaded is None
    assert models.state == ModelState("loading", "b.gguf", "fake", 0.5, "half of it")
    with pytest.raises(ModelBusy, match="being loaded"):
        models.load("a")
    with pytest.raises(ModelBusy):
        models.unload("a")
    script.wait.set()
    thread.join(10)
    assert models.state.name == "b.gguf"


def test_who_sees_a_model_loaded_can_unload_it(models: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """This must also work if the load has not returned yet."""
    waits, goes_on = threading.Event(), threading.Event()

    def on_lost(model: Any, lost: Any) -> None:
        waits.set()
        goes_on.wait(10)

    monkeypatch.setattr(FakeModel, "on_lost", on_lost)
    thread = threading.Thread(target=models.load, args=("a",))
    thread.start()
    assert waits.wait(10)
    assert models.state.phase == "loaded"
    threading.Timer(0.1, goes_on.set).start()
    models.unload()
    thread.join(10)
    assert models.state == ModelState()


@pytest.mark.parametrize("deaf", [False, True])
def test_a_load_can_be_cancelled(models: ModelManager, script: Any, deaf: bool) -> None:
    script.wait, script.deaf = threading.Event(), deaf
    caught: list[BaseException] = []

    def load() -> None:
        try:
            models.load("a")
        except UserError as error:
            caught.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    assert script.waiting.wait(10)
    models.cancel_load()
    script.wait.set()
    thread.join(10)
    assert isinstance(caught[0], LoadCancelled)
    assert models.state == ModelState(error=str(LoadCancelled()))
    script.wait = None
    assert models.load("a")


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (ModelFileError("a.gguf", "it is cut short."), ModelFileError, "cut short"),
        (
            RuntimeError("CUDA error: out of memory\nand more"),
            ModelFileError,
            r"RuntimeError: CUDA error: out of memory\)",
        ),
        (MemoryError(), ModelFileError, "not enough memory"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    models: ModelManager, script: Any, paths: Paths, error: Exception, expected: type[UserError], words: str
) -> None:
    script.error = error
    with pytest.raises(expected, match=words) as caught:
        models.load("a")
    assert models.state == ModelState(error=str(caught.value))
    assert models.loaded is None
    assert LastModelFile(paths).read().died_loading == ""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "c"}, UnknownName),
        ({"name": "b", "loader": "nonsense"}, UnknownName),
        ({"name": "b", "options": {"n_ctx": -1}}, InvalidInput),
        ({"name": "b", "options": {"wbits": 4}}, InvalidInput),
        ({"name": "broken"}, InvalidInput),
        ({"name": "foreign.bin"}, InvalidInput),
    ],
)
def test_a_request_without_sense_leaves_the_old_model(
    models: ModelManager, paths: Paths, arguments: dict[str, Any], error: type[UserError]
) -> None:
    (paths.models / "broken.gguf").write_bytes(b"GGUF")
    (paths.models / "foreign.bin").write_bytes(b"x")
    model: Any = models.load("a")
    with pytest.raises(error) as caught:
        models.load(**arguments)
    assert models.current() is model
    assert model.closed == 0
    assert models.state.phase == "loaded"
    assert models.state.error == str(caught.value)


def test_unloading_forgets_and_closing_does_not(models: ModelManager, paths: Paths) -> None:
    model: Any = models.load("a")
    models.unload()
    assert model.closed == 1
    assert models.state == ModelState()
    assert LastModelFile(paths).read().name == ""
    models.unload()
    model = models.load("a")
    models.close()
    models.close()
    assert model.closed == 1
    assert LastModelFile(paths).read().name == "a.gguf"
    with pytest.raises(LoadCancelled):
        models.load("a")


def test_a_request_during_a_load_is_told_so(models: ModelManager, script: Any) -> None:
    script.wait = threading.Event()
    thread = threading.Thread(target=models.load, args=("a",))
    thread.start()
    assert script.waiting.wait(10)
    with pytest.raises(NoModelLoaded, match="still being loaded"):
        models.lease_default()
    script.wait.set()
    thread.join(10)
    assert models.lease_default().model is models.loaded


def test_closing_waits_for_the_load_that_it_cancels(
    models: ModelManager, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a line about it: whoever ends the program knows why, or is told another reason."""
    script.wait = threading.Event()

    def load() -> None:
        with pytest.raises(LoadCancelled):
            models.load("a")

    thread = threading.Thread(target=load)
    thread.start()
    assert script.waiting.wait(10)
    closing = threading.Thread(target=models.close)
    closing.start()
    script.wait.set()
    closing.join(10)
    assert "ancelled" not in caplog.text
    thread.join(10)
    assert not closing.is_alive()
    assert models.loaded is None


def test_options_are_layered(
    models: ModelManager, paths: Paths, shelf: ModelCatalog, loaders: Mapping[str, type[Loader]]
) -> None:
    flagged = ModelManager(paths, shelf, ModelSettings(paths, loaders), loaders, {"ctx_size": 2000, "threads": 4})
    assert models.default_options("a", "fake")[1] == "the loader's defaults"
    options, reason = flagged.default_options("a", "fake")
    assert options.model_dump() == {"n_ctx": 2000, "cpu": False}
    assert reason == "from the flags: n_ctx"
    models.save_options("a", "fake", {"n_ctx": 3000})
    assert flagged.default_options("a", "fake")[0].model_dump()["n_ctx"] == 3000
    assert flagged.load("a", flags_win=True).options.model_dump()["n_ctx"] == 2000
    assert flagged.load("a", options={"ctx_size": 7}, flags_win=True).options.model_dump()["n_ctx"] == 7
    assert flagged.load("a").options.model_dump() == {"n_ctx": 3000, "cpu": False}


def test_saving_checks(models: ModelManager) -> None:
    with pytest.raises(InvalidInput, match="n_ctx"):
        models.save_options("a", "fake", {"n_ctx": -3})
    with pytest.raises(UnknownName):
        models.save_options("nope", "fake", {})


def test_the_loader_is_chosen_asked_saved_preferred_best(
    models: ModelManager,
    paths: Paths,
    shelf: ModelCatalog,
    model_settings: ModelSettings,
    loaders: Mapping[str, type[Loader]],
    script: Any,
) -> None:
    assert models.loaders_for("a") == [LoaderChoice("fake", 90), LoaderChoice("slow one", 10)]
    preferring = ModelManager(paths, shelf, model_settings, loaders, {}, preferred_loader="Slow-One")
    preferring.load("a")
    assert preferring.state.loader == "slow one"
    models.save_options("a", "fake", {})
    preferring.load("a")
    assert preferring.state.loader == "fake"
    preferring.load("a", "SLOW_ONE")
    assert preferring.state.loader == "slow one"
    script.missing = "fake requires the package tea. Install it with: pip install tea"
    models.load("b")
    assert models.state.loader == "slow one"
    with pytest.raises(Unavailable, match="pip install tea"):
        models.load("a")


def test_a_model_can_be_obtained_first(models: ModelManager, gguf: Make) -> None:
    seen: list[ModelState] = []

    def obtain(progress: Callable[[float, str], bool]) -> None:
        assert progress(0.5, "fetching")
        seen.append(models.state)
        gguf("new.gguf")

    models.load("new.gguf", obtain=obtain)
    assert seen == [ModelState("loading", "new.gguf", "", 0.45, "fetching")]
    assert models.state.name == "new.gguf"


def test_failing_to_obtain_is_said_and_the_old_model_stays(models: ModelManager) -> None:
    def obtain(progress: Callable[[float, str], bool]) -> None:
        raise Unavailable("There is no network.")

    with pytest.raises(Unavailable):
        models.load("new.gguf", obtain=obtain)
    assert models.state == ModelState(error="There is no network.")
    model = models.load("a")
    with pytest.raises(Unavailable):
        models.load("new.gguf", obtain=obtain)
    assert models.current() is model
    assert models.state.phase == "loaded"


def test_many_threads_leave_one_model(models: ModelManager) -> None:
    made: list[Any] = []

    def hammer(name: str) -> None:
        for _ in range(20):
            try:
                made.append(models.load(name))
                models.unload()
            except (ModelBusy, LoadCancelled):
                pass

    threads = [threading.Thread(target=hammer, args=(name,)) for name in "abab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    models.unload()
    assert made
    assert [model.closed for model in made] == [1] * len(made)


def test_the_real_loader_and_model(demo_model_path: Path, paths: Paths) -> None:
    paths = Paths.under(paths.root, model_dir=demo_model_path.parent)
    models = ModelManager(paths, ModelCatalog(paths), ModelSettings(paths), LOADERS, {"n_ctx": 256, "threads": 1})
    assert models.loaders_for(demo_model_path.name)[0] == LoaderChoice("llama.cpp", 100)
    model = models.load(demo_model_path.name)
    assert model.context_length == 256
    assert models.state.notes
    models.unload()
    assert models.loaded is None


@pytest.mark.parametrize(
    ("name", "words"),
    [("t5.gguf", r"encoder-decoder model \(t5\)"), ("bert", "encoder-only model"), ("strange", "no installed loader")],
)
def test_what_no_loader_takes_is_refused_with_the_reason(gguf: Make, paths: Paths, name: str, words: str) -> None:
    gguf("t5.gguf", **{"general.architecture": "t5"})
    for folder, config in (("bert", '{"model_type": "bert", "architectures": ["BertModel"]}'), ("strange", "{}")):
        (paths.models / folder).mkdir()
        (paths.models / folder / "model.safetensors").write_bytes(b"x")
        (paths.models / folder / "config.json").write_text(config)
    models = ModelManager(paths, ModelCatalog(paths), ModelSettings(paths), LOADERS, {})
    with pytest.raises(ModelFileError, match=words):
        models.load(name)


@pytest.mark.parametrize("name", ["others_code", "code"])
@pytest.mark.parametrize("value", [True, "true", 1, "on"])
def test_what_runs_others_code_is_switched_on_at_the_start_alone(
    models: ModelManager,
    loaders: Mapping[str, type[Loader]],
    gguf: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: object,
) -> None:
    class Options(FakeOptions):
        others_code: bool = knob(False, group="other", start_only=True, aliases=("code",), help="Runs others' code.")

    monkeypatch.setattr(loaders["fake"], "Options", Options)
    gguf("a.gguf")
    with pytest.raises(InvalidInput):
        models.load("a.gguf", "fake", {name: value})
    assert models.loaded is None
    models.save_options("a.gguf", "fake", {"others_code": True})
    with pytest.raises(InvalidInput, match=r"others_code can only be enabled at startup"):
        models.load("a.gguf", "fake")
    assert models.loaded is None
