"""A models folder, GGUF files without weights, and a loader that loads nothing."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loaders.base import Loader, Model, Progress, Request, TokenStream
from loaders.knobs import knob
from loaders.params import LoadOptions
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_settings import ModelSettings


class FakeOptions(LoadOptions):
    n_ctx: int = knob(512, ge=0, group="main", aliases=("ctx_size",), help="Context.")
    cpu: bool = knob(False, group="main", help="CPU.")


class FakeModel(Model):
    loader = "fake"
    context_length = 512

    def __init__(self, name: str, options: LoadOptions) -> None:
        self.name = name
        self.options = options
        self.notes = ("as asked",)
        self.closed = 0

    def generate(self, request: Request) -> TokenStream:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1


FakeModel.__abstractmethods__ = frozenset()  # what only generating needs is left out here


@dataclass
class Script:
    """What the fake loader does: fail, wait halfway until released, or lack its package."""

    error: BaseException | None = None
    only: str = ""  # the file whose load fails, "" for any
    refuse: BaseException | None = None  # the error of its check
    missing: str | None = None
    wait: threading.Event | None = None
    deaf: bool = False  # ignores cancellation
    waiting: threading.Event = field(default_factory=threading.Event)
    checks: list[str] = field(default_factory=list)
    loads: list[tuple[str, LoadOptions]] = field(default_factory=list)


def _fake_loader(script: Script, loader_name: str, score: int) -> type[Loader]:
    class FakeLoader(Loader):
        name = loader_name
        summary = "For tests."
        Options = FakeOptions

        @classmethod
        def accepts(cls, path: Path) -> int:
            return score if path.suffix == ".gguf" else 0

        @classmethod
        def missing(cls) -> str | None:
            return script.missing if loader_name == "fake" else None

        @classmethod
        def check(cls, path: Path, options: LoadOptions, progress: Progress) -> None:
            script.checks.append(path.name)
            progress(0.1, "looking")
            if script.refuse:
                raise script.refuse

        @classmethod
        def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
            from errors import LoadCancelled

            script.loads.append((path.name, options))
            going_on = progress(0.5, "half of it")
            if script.wait:
                script.waiting.set()
                script.wait.wait(10)
                going_on = progress(0.6, "more") and going_on
            if not going_on and not script.deaf:
                raise LoadCancelled
            if script.error and script.only in ("", path.name):
                raise script.error
            return FakeModel(path.name, options)

    return FakeLoader


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def loaders(script: Script) -> Mapping[str, type[Loader]]:
    return {"slow one": _fake_loader(script, "slow one", 10), "fake": _fake_loader(script, "fake", 90)}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths.under(tmp_path)
    paths.ensure()
    return paths


@pytest.fixture
def shelf(paths: Paths) -> ModelCatalog:
    return ModelCatalog(paths)


@pytest.fixture
def model_settings(paths: Paths, loaders: Mapping[str, type[Loader]]) -> ModelSettings:
    return ModelSettings(paths, loaders)


@pytest.fixture
def models(
    paths: Paths, shelf: ModelCatalog, model_settings: ModelSettings, loaders: Mapping[str, type[Loader]]
) -> ModelManager:
    return ModelManager(paths, shelf, model_settings, loaders, {})


@pytest.fixture
def gguf(paths: Paths) -> Callable[..., Path]:
    """Makes a GGUF in models/: valid, with one tensor of 32 floats."""

    def make(name: str, **metadata: Any) -> Path:
        path = paths.models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gguf_bytes({"general.architecture": "llama", "llama.context_length": 4096} | metadata))
        return path

    return make


def gguf_bytes(metadata: Mapping[str, Any]) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    data = b"GGUF" + struct.pack("<IQQ", 3, 1, len(metadata))
    for key, value in metadata.items():
        kind = struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
        data += text(key) + kind
    data += text("blk.0.weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    return data + bytes(-len(data) % 32) + bytes(128)
