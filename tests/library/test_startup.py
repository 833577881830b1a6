"""Which model a start begins with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from errors import FetchFailed, UnknownName
from loaders.base import Progress
from modules.config.flags import LaunchOptions, ServerFlags
from modules.config.paths import Paths
from modules.library.demo_model import NAME, DemoModel
from modules.library.last_model import LastModelFile
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.startup import Startup

Make = Callable[..., Path]
Start = Callable[..., Startup]


class FakeDemo(DemoModel):
    """A demo model that comes from a function."""

    def __init__(self, paths: Paths, fetch: Callable[[], object]) -> None:
        super().__init__(paths)
        self._fetch = fetch

    def fetch(self, progress: Progress) -> None:
        progress(0.5, "half")
        self._fetch()


@pytest.fixture
def start(paths: Paths, shelf: ModelCatalog, models: ModelManager) -> Start:
    def make(ask: Callable[[str], str] = input, demo: DemoModel | None = None, **flags: object) -> Startup:
        return Startup(paths, shelf, models, LaunchOptions(ServerFlags.parse(flags)), ask=ask, demo=demo)

    return make


def test_an_empty_shelf_fetches_the_demo_model_and_loads_it(
    start: Start, models: ModelManager, paths: Paths, gguf: Make
) -> None:
    startup = start(demo=FakeDemo(paths, lambda: gguf(NAME)))
    choice = startup.choose()
    assert (choice.name, choice.fetch) == (NAME, True)
    startup.begin(choice).join(10)
    assert models.state.phase == "loaded"
    assert models.state.name == NAME


def test_without_a_network_the_start_goes_on_and_says_what_is_missing(
    start: Start, models: ModelManager, paths: Paths
) -> None:
    def fail() -> None:
        raise FetchFailed("The demo model", "there is no network", "Place a .gguf into models.")

    startup = start(demo=FakeDemo(paths, fail))
    startup.begin(startup.choose()).join(10)
    assert models.state.phase == "none"
    assert (
        models.state.error == "The demo model could not be downloaded: there is no network. Place a .gguf into models."
    )


def test_surprises_in_the_thread_are_told(start: Start, models: ModelManager, paths: Paths) -> None:
    def fail() -> None:
        raise RuntimeError("what")

    startup = start(demo=FakeDemo(paths, fail))
    startup.begin(startup.choose()).join(10)
    assert models.state.phase == "none"
    assert models.state.error


def test_the_only_model_is_loaded(start: Start, models: ModelManager, gguf: Make) -> None:
    gguf("a.gguf")
    startup = start()
    startup.begin(startup.choose()).join(10)
    assert models.state.name == "a.gguf"


def test_several_models_wait_for_the_user_then_the_last_one_comes_back(
    start: Start, models: ModelManager, paths: Paths, gguf: Make
) -> None:
    gguf("a.gguf")
    gguf("b.gguf")
    choice = start().choose()
    assert choice.name == ""
    assert "2 models" in choice.reason
    models.load("b", "slow one")
    choice = start().choose()
    assert (choice.name, choice.loader) == ("b.gguf", "slow one")
    assert start(loader="fake").choose().loader is None
    models.unload()
    assert start().choose().name == ""
    LastModelFile(paths).loaded("gone.gguf", "fake")
    assert start().choose().name == ""


def test_a_model_that_killed_the_program_is_left_alone_once(start: Start, paths: Paths, gguf: Make) -> None:
    gguf("a.gguf")
    gguf("b.gguf")
    memory = LastModelFile(paths)
    memory.loaded("a.gguf", "fake")
    memory.loading("a.gguf")
    choice = start().choose()
    assert choice.name == ""
    assert "a.gguf" in choice.reason
    assert start().choose().name == "a.gguf"
    memory.loading("b.gguf")
    assert start().choose().name == "a.gguf"


def test_the_flag_wins(start: Start, models: ModelManager, gguf: Make) -> None:
    gguf("a.gguf")
    gguf("b.gguf")
    models.load("a")
    assert start(model="B", loader="fake").choose().name == "b.gguf"
    assert start(model="B", loader="fake").choose().loader == "fake"
    assert start(model="None").choose().name == ""
    with pytest.raises(UnknownName, match=r"no model named 'c.gguf'"):
        start(model="c.gguf").choose()


def test_the_demo_model_by_name_is_fetched(start: Start, gguf: Make) -> None:
    gguf("a.gguf")
    assert start(model="smollm2-135m-instruct.q4_1").choose().fetch


def test_the_menu_asks_until_it_is_answered(start: Start, gguf: Make) -> None:
    gguf("a.gguf")
    gguf("b.gguf")
    answers = iter(["x", "9", "2"])
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return next(answers)

    assert start(ask, model_menu=True).choose().name == "b.gguf"
    assert "1. a.gguf" in asked[0]
    assert start(lambda _: "", model_menu=True).choose().name == ""

    def no_terminal(_question: str) -> str:
        raise EOFError

    assert "requires a terminal" in start(no_terminal, model_menu=True).choose().reason


def test_what_follows_a_load_may_fail_in_words(
    paths: Paths, shelf: ModelCatalog, models: ModelManager, gguf: Make, caplog: pytest.LogCaptureFixture
) -> None:
    gguf("a.gguf")
    done: list[str] = []

    def loaded() -> None:
        done.append("loaded")
        raise UnknownName("LoRA", "fox", [])

    startup = Startup(paths, shelf, models, LaunchOptions(ServerFlags()), loaded=loaded)
    startup.begin(startup.choose()).join()
    assert done == ["loaded"]
    assert "fox" in caplog.text
