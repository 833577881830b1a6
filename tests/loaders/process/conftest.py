"""The demo model in a process of its own, and the same in this one; no longer than a module needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from loaders import loader_named
from loaders.base import Model
from loaders.process import load_model
from loaders.process.proxy import ProcessModel
from tests.conftest import keep_going

OPTIONS = {"n_ctx": 2048, "threads": 1, "threads_batch": 1, "flash_attn": "on"}


Hosts = Callable[[], list[psutil.Process]]


def _hosts() -> list[psutil.Process]:
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if "loaders.process.host" in each.cmdline():
                found.append(each)
    return found


@pytest.fixture(autouse=True)
def hosts() -> Hosts:
    """The processes of models that this test began, before its other fixtures; other tests' servers keep theirs."""
    before = _hosts()
    return lambda: [each for each in _hosts() if each not in before]


def load_demo(path: Path) -> ProcessModel:
    loader = loader_named("llama.cpp")
    model = load_model(loader, path, loader.Options.parse(OPTIONS), keep_going)
    assert isinstance(model, ProcessModel)
    return model


@pytest.fixture(scope="module")
def local(demo_model_path: Path) -> Iterator[Model]:
    """To compare with: `demo_model` has read what other tests asked, and logits depend on how a prompt was cut."""
    loader = loader_named("llama.cpp")
    with loader.load(demo_model_path, loader.Options.parse(OPTIONS), keep_going) as model:
        yield model


@pytest.fixture(scope="module")
def remote(demo_model_path: Path) -> Iterator[ProcessModel]:
    with load_demo(demo_model_path) as model:
        yield model
