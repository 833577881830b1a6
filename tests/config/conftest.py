"""A loader with few options, so that flags can be tested apart from any real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from loaders.base import Loader, Model, Progress
from loaders.knobs import knob
from loaders.params import LoadOptions


class TinyOptions(LoadOptions):
    n_ctx: int = knob(0, ge=0, group="main", aliases=("ctx_size",), help="Context.")
    flash_attn: Literal["auto", "on", "off"] = knob("auto", group="speed", help="Flash.")
    no_mmap: bool = knob(False, group="memory", help="No mapping.")


class TinyLoader(Loader):
    name = "tiny.cpp"
    summary = "For tests."
    Options = TinyOptions

    @classmethod
    def accepts(cls, path: Path) -> int:
        return 0

    @classmethod
    def missing(cls) -> str | None:
        return None

    @classmethod
    def load(cls, path: Path, options: LoadOptions, progress: Progress) -> Model:
        raise NotImplementedError


@pytest.fixture
def loaders() -> Mapping[str, type[Loader]]:
    return {TinyLoader.name: TinyLoader}
