"""A file that crashes the process that loads it is refused with llama.cpp's message, and nothing else ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from errors import LoadCancelled, ModelFileError, NotEnoughMemory
from loaders import loader_named
from loaders.base import Lora
from loaders.llamacpp import child_process, load_trial
from tests.conftest import keep_going
from tests.zoo import families, ggufs


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
    with pytest.raises(
        ModelFileError, match=rf"zoo-{name}\.gguf cannot be loaded: it would crash the program .*{words}"
    ):
        found.load(path, found.Options.parse({"n_ctx": 256}), keep_going)


def changed(name: str, folder: Path, what: str) -> Path:
    """A file that loads and computes a token, and crashes llama.cpp later."""
    recipe = {key: value for key, _, value in json.loads((ggufs.RECIPES / f"{name}.json").read_text())["metadata"]}
    changes: dict[str, object] = {"tokenizer.ggml.model": what}
    if what == "no bytes":
        changes = {
            "tokenizer.ggml.tokens": [t.replace("<0x", "<1x") for t in recipe["tokenizer.ggml.tokens"]],
            "tokenizer.ggml.token_type": [1 if t == 6 else t for t in recipe["tokenizer.ggml.token_type"]],
        }
    elif what == "pooling":
        changes = {f"{name}.pooling_type": 9}
    return ggufs.make(name, folder, changes=changes)


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [
        ("gemma2", "no bytes", "it would crash the program"),  # at a text with a rare character
        ("llama", "pooling", "it would crash the program .*pooling"),  # when a text is embedded
        ("llama", "no_vocab", "it has no vocabulary"),
        ("llama", "none", "it has no vocabulary"),
    ],
)
def test_what_would_crash_only_later_is_refused(tmp_path: Path, name: str, what: str, words: str) -> None:
    path, loader = changed(name, tmp_path, what), loader_named("llama.cpp")
    with pytest.raises(ModelFileError, match=words):
        loader.load(path, loader.Options.parse({"n_ctx": 256}), keep_going)


@pytest.mark.parametrize("kind", [np.int32, np.float64, np.int8])
def test_an_adapter_of_no_weights_is_refused(tmp_path: Path, kind: type) -> None:
    path, loader = tmp_path / "adapter.gguf", loader_named("llama.cpp")
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in (("general.type", "adapter"), ("adapter.type", "lora")):
        writer.add_string(key, value)
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, 64), kind))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", np.ones((64, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    options = loader.Options.parse({"n_ctx": 256})
    with loader.load(ggufs.make("llama", tmp_path), options, keep_going) as model:
        with pytest.raises(ModelFileError, match=r"lora_a has the type"):
            model.set_loras([Lora(path)])
        assert not model.loras


def test_the_forecast_says_so_too(tmp_path: Path) -> None:
    loader = loader_named("llama.cpp")
    with pytest.raises(ModelFileError, match="GGML_ASSERT"):
        loader.forecast(ggufs.make("granitemoehybrid", tmp_path), loader.Options.parse({"n_ctx": 256}))


def test_a_file_is_tried_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tried = ggufs.make("llama", tmp_path), []
    real = child_process.ask_child

    def run(module: str, *rest: Any, **more: Any) -> Any:
        tried.append(module)
        return real(module, *rest, **more)

    monkeypatch.setattr(child_process, "ask_child", run)
    params = {"flash_attn_type": -1, "type_k": 1, "type_v": 1}
    for _ in range(2):
        load_trial.try_model([path], params, 10**10, lambda: True)
    assert len(tried) == 1
    os.utime(path, (1, 1))
    load_trial.try_model([path], params, 10**10, lambda: True)
    assert len(tried) == 2
    other = tmp_path / "other.gguf"  # of the same size and time
    shutil.copy2(path, other)
    other.replace(path)
    load_trial.try_model([path], params, 10**10, lambda: True)
    assert len(tried) == 3


def test_a_trial_can_be_cancelled(tmp_path: Path) -> None:
    path = ggufs.make("llama", tmp_path)
    with pytest.raises(LoadCancelled):
        load_trial.try_model([path], {"flash_attn_type": 0, "type_k": 1, "type_v": 1}, 10**10, lambda: False)


@pytest.mark.parametrize(
    ("code", "complaints", "said"),
    [
        (0, "warning.c:1: nothing", ""),
        (1, "Traceback", ""),
        (-signal.SIGABRT, "/src/ggml.c:12: GGML_ASSERT(a > b) failed\n", "llama.cpp says: GGML_ASSERT(a > b) failed"),
        (-signal.SIGABRT, "D:\\a\\ggml.cpp:7: fatal error\n", "llama.cpp says: fatal error (ggml.cpp:7)"),
        (-signal.SIGSEGV, "", "llama.cpp ended with SIGSEGV"),
        (-signal.SIGILL, "noise", "llama.cpp ended with SIGILL"),
        (-9, "", "most likely because memory ran out"),
        (0xC000001D, "", "llama.cpp ended with exit code 0xc000001d"),
    ],
)
def test_how_a_process_ended_is_said(code: int, complaints: str, said: str) -> None:
    assert said in child_process.describe_crash(code, complaints)
    assert bool(said) == bool(child_process.describe_crash(code, complaints))


def test_what_ends_without_an_answer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    assert child_process.ask_child("anything", {}) is None


def test_a_file_larger_than_memory_is_tried_without_its_weights(tmp_path: Path) -> None:
    """llama.cpp asserted in that test, so every such file was reported as damaged, even with all of it on a GPU."""
    path = families.write(families.FAMILIES["GLM 4.5 Air"], tmp_path / "large.gguf", words=True)
    context = {"flash_attn_type": -1, "type_k": 1, "type_v": 1}
    assert not load_trial.try_model([path], context, 10**9, lambda: True)
    loader = loader_named("llama.cpp")
    with pytest.raises(NotEnoughMemory, match="needs about"):
        loader.load(path, loader.Options.parse({"cpu": True, "n_ctx": 512, "no_mmap": True}), lambda *_: True)
