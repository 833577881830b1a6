"""A mapped GGUF that is truncated while it is loaded causes an error and does not crash the program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from errors import Unavailable
from loaders import loader_named
from loaders.base import Request
from loaders.llamacpp.mapped_files import MappedFiles
from loaders.params import SamplingParams


@pytest.mark.parametrize("how", ["cut", "grown", "gone", "replaced"])
def test_only_what_is_cut_in_place_is_refused(tmp_path: Path, how: str) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"x" * 1000)
    files = MappedFiles([str(file)])
    files.check()
    if how == "cut":
        with file.open("r+b") as opened:
            opened.truncate(10)
        with pytest.raises(Unavailable, match=r"a\.gguf was truncated"):
            files.check()
        return
    if how == "grown":
        file.write_bytes(b"x" * 2000)
    elif how == "gone":
        file.unlink()
    else:
        (tmp_path / "b.gguf").write_bytes(b"x")
        (tmp_path / "b.gguf").replace(file)
    files.check()


def test_a_loaded_model_refuses_and_the_program_lives(demo_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "demo.gguf"
    shutil.copy(demo_model_path, file)
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 256, "threads": 1, "parallel": 1})
    with loader.load(file, options, lambda *_: True) as model:
        request = Request(model.tokenizer.encode("One"), SamplingParams(), max_tokens=2)
        assert len(list(model.generate(request))) == 2
        with file.open("r+b") as opened:
            opened.truncate(4096)
        with pytest.raises(Unavailable, match="load the model again"):
            model.generate(request)
        with pytest.raises(Unavailable, match="load the model again"):
            model.embed([[1, 2]])
