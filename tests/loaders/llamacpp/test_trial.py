"""A file that ends the process it is loaded into is refused, with llama.cpp's own words, and nothing else ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from errors import LoadCancelled, ModelFileError
from loaders import loader_named
from loaders.llamacpp import child, trial
from tests.conftest import keep_going
from tests.zoo import ggufs


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("granitemoehybrid", r"GGML_ASSERT\(n_expert_used_max <= hparams.n_expert\)"),  # when it is loaded
        ("llama4", "tensor buffer not set"),  # when the first token is computed
    ],
)
@pytest.mark.parametrize("loader", ["llama.cpp", "llamacpp_HF"])
def test_a_file_over_which_llama_cpp_aborts_is_refused(tmp_path: Path, name: str, words: str, loader: str) -> None:
    path, found = ggufs.make(name, tmp_path), loader_named(loader)
    with pytest.raises(ModelFileError, match=rf"zoo-{name}\.gguf cannot be loaded: it would end the program .*{words}"):
        found.load(path, found.Options.parse({"n_ctx": 256}), keep_going)


def test_the_forecast_says_so_too(tmp_path: Path) -> None:
    loader = loader_named("llama.cpp")
    with pytest.raises(ModelFileError, match="GGML_ASSERT"):
        loader.forecast(ggufs.make("granitemoehybrid", tmp_path), loader.Options.parse({"n_ctx": 256}))


def test_a_file_is_tried_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tried = ggufs.make("llama", tmp_path), []
    real = child.run
    monkeypatch.setattr(child, "run", lambda module, *rest: (tried.append(module), real(module, *rest))[1])
    params = {"flash_attn_type": -1, "type_k": 1, "type_v": 1}
    for _ in range(2):
        trial.check([path], params, 10**10, lambda: True)
    assert len(tried) == 1
    os.utime(path, (1, 1))
    trial.check([path], params, 10**10, lambda: True)
    assert len(tried) == 2


def test_a_trial_can_be_cancelled(tmp_path: Path) -> None:
    path = ggufs.make("llama", tmp_path)
    with pytest.raises(LoadCancelled):
        trial.check([path], {"flash_attn_type": 0, "type_k": 1, "type_v": 1}, 10**10, lambda: False)


@pytest.mark.parametrize(
    ("code", "complaints", "said"),
    [
        (0, "warning.c:1: nothing", ""),
        (1, "Traceback", ""),
        (-signal.SIGABRT, "/src/ggml.c:12: GGML_ASSERT(a > b) failed\n", "llama.cpp says: GGML_ASSERT(a > b) failed"),
        (-signal.SIGABRT, "D:\\a\\ggml.cpp:7: fatal error\n", "llama.cpp says: fatal error (ggml.cpp:7)"),
        (-signal.SIGSEGV, "", "llama.cpp ended with SIGSEGV"),
        (-signal.SIGILL, "noise", "llama.cpp ended with SIGILL"),
        (-9, "", "most likely for want of memory"),
        (0xC000001D, "", "llama.cpp ended with exit code 0xc000001d"),
    ],
)
def test_how_a_process_ended_is_said(code: int, complaints: str, said: str) -> None:
    assert said in child.how_it_crashed(code, complaints)
    assert bool(said) == bool(child.how_it_crashed(code, complaints))


def test_what_ends_without_an_answer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert child.run("anything", {}) is None
