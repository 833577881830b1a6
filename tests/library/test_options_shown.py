"""The options that the Model tab shows are those of the load, and say which of flags and saved settings won."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from errors import InvalidInput
from loaders import LOADERS
from loaders.base import Loader
from loaders.knobs import Knob
from loaders.params import LoadOptions
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings


@pytest.fixture(autouse=True)
def _model(gguf: Callable[..., Path]) -> None:
    gguf("a.gguf")


def test_the_model_tab_shows_what_the_model_was_loaded_with(
    paths: Paths, shelf: ModelCatalog, loaders: Mapping[str, type[Loader]], script: Any
) -> None:
    flagged = ModelManager(paths, shelf, ModelSettings(paths, loaders), loaders, {"n_ctx": 2000, "cpu": True})
    flagged.save_options("a", "fake", {"n_ctx": 3000, "cpu": True})
    before = flagged.shown("a")
    assert before.options.model_dump() == flagged.plan("a").options.model_dump() == {"n_ctx": 3000, "cpu": True}
    assert (
        before.reason
        == "from config-user.yaml; from the flags: cpu; from config-user.yaml instead of the flags --n-ctx 2000"
    )
    script.wait = threading.Event()
    thread = threading.Thread(target=lambda: flagged.load("a", flags_win=True))
    thread.start()
    assert script.waiting.wait(10)
    loading = flagged.shown("a").options
    script.wait.set()
    thread.join(10)
    loaded = flagged.shown("a")
    assert loaded.options == loading == script.loads[-1][1] == flagged.loaded.options  # type: ignore[union-attr]
    assert loaded.options.model_dump() == {"n_ctx": 2000, "cpu": True}
    assert (
        loaded.reason
        == "from config-user.yaml; from the flags: cpu; from the flags instead of config-user.yaml: --n-ctx 2000"
    )
    flagged.load("a", options={**loaded.options.model_dump(), "n_ctx": 99})
    assert flagged.shown("a").options.model_dump()["n_ctx"] == 99
    assert flagged.shown("a").reason.endswith("; changed for this load: n_ctx")
    flagged.unload()
    assert flagged.shown("a") == before


def _two_values(kind: type[LoadOptions], knob: Knob) -> list[Any]:
    """Two values of an option that it accepts and that are not the same."""
    words = ["", "1,1", "2,1", "4GiB", "6GiB", "eager", "sdpa", "a:1", "b:2", "x.gguf", "y.gguf", "NAME=1", "NAME=2"]
    tries = [knob.default, *knob.choices, True, False, 1, 2, 4, 8, 0.5, 512, 1024, *words]
    found: list[Any] = []
    for value in tries:
        with contextlib.suppress(InvalidInput):
            got = kind.parse({knob.name: value}).model_dump()[knob.name]
            if got not in found:
                found.append(got)
    return found[:2]


_OPTIONS = [(loader, knob) for loader, kind in LOADERS.items() for knob in kind.Options.knobs().values()]


@pytest.mark.parametrize(("loader", "knob"), _OPTIONS, ids=[f"{loader}-{knob.name}" for loader, knob in _OPTIONS])
def test_each_option_is_shown_as_it_is_loaded_when_a_flag_and_an_entry_differ(
    paths: Paths, shelf: ModelCatalog, loader: str, knob: Knob
) -> None:
    kind = type(loader, (LOADERS[loader],), {"missing": classmethod(lambda cls: None)})
    flag, saved = _two_values(kind.Options, knob)
    if knob.start_only and saved:
        flag, saved = saved, flag
    entry = {"loader": loader, knob.name: saved}
    if needed := kind.Options.NEEDS.get(knob.name):
        entry[needed] = "b.gguf"
    models = ModelManager(paths, shelf, ModelSettings(paths, {loader: kind}), {loader: kind}, {knob.name: flag})
    (paths.models / "config-user.yaml").write_text(yaml.safe_dump({"a.gguf$": entry}))
    at_start, later, shown = models.plan("a", loader, flags_win=True), models.plan("a", loader), models.shown("a")
    assert shown == later
    assert (at_start.options.model_dump()[knob.name], later.options.model_dump()[knob.name]) == (flag, saved)
    assert knob.flag.removeprefix("--") in later.reason.partition("from config-user.yaml instead of the flags ")[2]
    assert "from the flags instead of config-user.yaml: " in at_start.reason


def test_the_saved_loader_is_shown_before_that_of_the_flags(
    paths: Paths, shelf: ModelCatalog, loaders: Mapping[str, type[Loader]]
) -> None:
    names = list(loaders)
    models = ModelManager(paths, shelf, ModelSettings(paths, loaders), loaders, {}, preferred_loader=names[-1])
    assert models.shown("a").loader == models.plan("a").loader == names[-1]
    models.save_options("a", names[0], {})
    assert models.shown("a").loader == models.plan("a").loader == names[0]
