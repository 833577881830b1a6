"""A load that fails does not cost the model that was loaded: bad files are refused before it is unloaded, and if the
load fails all the same, it is loaded again. A load that nobody wants any more can be cancelled.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from errors import (
    LoadCancelled,
    ModelFileError,
    NotEnoughMemory,
    UserError,
)
from loaders import LOADERS
from loaders.base import Lora, Model
from loaders.hf_common.folder_check import refuse_contradictions
from loaders.hf_common.model_folder import ModelFolder
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog
from modules.library.model_manager import ModelManager
from modules.library.model_memory import ModelLimits
from modules.library.model_settings import ModelSettings
from tests.library.conftest import FakeModel, FakeOptions
from tests.zoo import ggufs

Make = Callable[..., Path]

#: What is wrong with the zoo's llama (2 layers, 64 wide, 4 heads), and what is said about it.
BAD_HEADERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "no heads": ({"llama.attention.head_count": 0}, "attention.head_count is 0"),
    "wide": ({"llama.embedding_length": 96}, "embedding_length is 96, but .* rows of 64"),
    "no width": ({"llama.embedding_length": 0}, "embedding_length is 0"),
    "no layers": ({"llama.block_count": 0}, "block_count is 0"),
    "thousands of layers": ({"llama.block_count": 4_000}, "block_count is 4,000"),
    "a layer too many": ({"llama.block_count": 3}, "block_count is 3, but it has the tensors of 2"),
    "a layer too few": ({"llama.block_count": 1}, "block_count is 1, but it has the tensors of 2"),
    "absurd": ({"llama.feed_forward_length": 2**32 - 1}, "feed_forward_length is 4294967295"),
    # of which only llama.cpp knows
    "other shapes": ({"llama.feed_forward_length": 100}, "other_shapes.gguf cannot be loaded"),
    "no experts": ({"llama.expert_count": 2, "llama.expert_used_count": 4}, "no_experts.gguf cannot be loaded"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_a_bad_file_is_refused_while_the_loaded_model_stays(case: str, tmp_path: Path, paths: Paths) -> None:
    changes, words = BAD_HEADERS[case]
    ggufs.make("llama", tmp_path, changes=changes).rename(paths.models / f"{case.replace(' ', '_')}.gguf")
    models = ModelManager(paths, ModelCatalog(paths), ModelSettings(paths), LOADERS, {"n_ctx": 256})
    kept = FakeModel("kept", FakeOptions())
    models.adopt(kept)
    with pytest.raises(UserError, match=words):
        models.load(case.replace(" ", "_"))
    assert models.loaded is kept
    assert kept.closed == 0
    assert (models.state.phase, models.state.name) == ("loaded", "kept")
    assert models.state.error


def test_good_files_are_not_refused(tmp_path: Path) -> None:
    from loaders.llamacpp.gguf import read_header

    for name in ggufs.architectures():
        read_header(ggufs.make(name, tmp_path))


def safetensors(shapes: Mapping[str, list[int]], missing: int = 0) -> bytes:
    at, header = 0, {}
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + bytes(at - missing)


GOOD = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 4}
SHAPES = {"model.embed_tokens.weight": [4, 8], **{f"model.layers.{n}.mlp.weight": [8, 8] for n in range(2)}}
INDEX = "model.safetensors.index.json"
SHARD = {"model.safetensors": None, "model-1.safetensors": safetensors(SHAPES)}


@pytest.mark.parametrize(
    ("config", "files", "words"),
    [
        ({}, {}, ""),
        ({"num_hidden_layers": 3}, {}, "names 3 layers, but the files contain 2"),
        ({"num_hidden_layers": 100_000}, {}, "num_hidden_layers is 100000"),
        ({"num_attention_heads": 0}, {}, "num_attention_heads is 0"),
        ({"hidden_size": 12}, {}, "hidden_size 12, but .* rows of 8"),
        ({"hidden_size": 12, "auto_map": {"AutoModel": "own.py"}}, {}, ""),
        ({}, {"model.safetensors": safetensors(SHAPES, missing=1)}, "model.safetensors is incomplete"),
        ({}, {"model.safetensors": b"x"}, "damaged or incomplete"),
        ({}, {"model.safetensors": struct.pack("<Q", 2) + b"[]"}, "its header cannot be read"),
        ({}, {**SHARD, INDEX: b'{"weight_map": {"a": "b.safetensors"}}'}, "b.safetensors is missing"),
        ({}, {**SHARD, INDEX: b'{"weight_map": 5}'}, "index.json is damaged"),
        ({}, {INDEX: b'{"weight_map": {"a": "b.safetensors"}}'}, ""),  # left there: the whole file goes before it
    ],
)
def test_a_folder_that_contradicts_itself_is_refused(
    tmp_path: Path, config: dict[str, Any], files: dict[str, bytes | None], words: str
) -> None:
    for name, data in {"model.safetensors": safetensors(SHAPES), **files}.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    folder = ModelFolder(tmp_path, {**GOOD, **config}, 0)
    if not words:
        refuse_contradictions(folder)
        return
    with pytest.raises(ModelFileError, match=words):
        refuse_contradictions(folder)


def test_the_index_of_the_original_does_not_count_for_exl2(tmp_path: Path) -> None:
    (tmp_path / "output.safetensors").write_bytes(safetensors(SHAPES))
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    refuse_contradictions(ModelFolder(tmp_path, GOOD, 0), indexed=False)


@pytest.fixture
def ab(gguf: Make) -> None:
    gguf("a.gguf")
    gguf("b.gguf")


def test_what_its_loader_refuses_leaves_the_loaded_model(ab: None, models: ModelManager, script: Any) -> None:
    models.load("a")
    assert script.checks == []  # nothing was at stake
    kept: Any = models.loaded
    for error in (ModelFileError("b.gguf", "it is a test."), LoadCancelled()):
        script.refuse = error
        with pytest.raises(type(error)) as caught:
            models.load("b")
        assert models.loaded is kept
        assert kept.closed == 0
        assert models.state.error == str(caught.value)
    assert str(caught.value) == "Loading cancelled. a.gguf is still loaded."
    script.refuse = RuntimeError("a fault of the check")
    assert models.load("b") is models.loaded


@pytest.mark.parametrize(
    "error",
    [
        ModelFileError("b.gguf", "its process ended: it was killed."),
        MemoryError(),
        NotEnoughMemory("b", 9, 1, "Try c."),
    ],
)
def test_after_a_failed_load_the_model_before_is_loaded_again(
    ab: None, models: ModelManager, script: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def set_loras(model: Any, loras: Any) -> None:
        model.loras = tuple(loras)

    monkeypatch.setattr(FakeModel, "set_loras", set_loras)
    before: Any = models.load("a", options={"n_ctx": 128})
    before.set_loras([Lora(Path("adapter"))])
    script.error, script.only = error, "b.gguf"
    with pytest.raises(UserError, match=r"[.] a\.gguf is loaded again\.$") as caught:
        models.load("b")
    assert before.closed == 1
    again: Any = models.current()
    assert again is not before
    assert again.options.model_dump()["n_ctx"] == 128
    assert again.loras == (Lora(Path("adapter")),)
    assert (models.state.phase, models.state.name, models.state.error) == ("loaded", "a.gguf", str(caught.value))
    assert [name for name, _ in script.loads] == ["a.gguf", "b.gguf", "a.gguf"]


def test_what_cannot_be_loaded_again_either_is_said_once(ab: None, models: ModelManager, script: Any) -> None:
    models.load("a")
    script.error = RuntimeError("no card")
    with pytest.raises(ModelFileError, match=r"b\.gguf cannot be loaded: .*a\.gguf could not be loaded again either"):
        models.load("b")
    assert models.loaded is None
    assert models.state.phase == "none"
    assert len(script.loads) == 3


def test_of_several_models_only_what_left_comes_back(
    ab: None, gguf: Make, paths: Paths, shelf: ModelCatalog, model_settings: ModelSettings, loaders: Any, script: Any
) -> None:
    gguf("c.gguf")
    models = ModelManager(paths, shelf, model_settings, loaders, {}, limits=ModelLimits(2))
    models.load("a")
    default = models.load("b")
    script.error, script.only = MemoryError(), "c.gguf"
    with pytest.raises(ModelFileError, match=r"a\.gguf is loaded again"):
        models.load("c")
    assert models.loaded is default
    assert [each.name for each in models.memory.all] == ["b.gguf", "a.gguf"]
    with pytest.raises(ModelFileError, match=r"The next request loads b\.gguf again"):  # a has just been loaded
        models.load_for_request("c")
    assert models.load_for_request("b").name == "b.gguf"


def begin(do: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except UserError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, caught


@pytest.mark.parametrize("name", ["", "B"])
def test_to_unload_a_model_that_is_being_loaded_cancels_that(
    ab: None, models: ModelManager, script: Any, name: str
) -> None:
    models.load("a")
    script.wait = threading.Event()
    thread, caught = begin(lambda: models.load("b"))
    assert script.waiting.wait(10)
    threading.Timer(0.05, script.wait.set).start()
    assert models.unload(name) == "b.gguf"
    thread.join(10)
    assert [str(each) for each in caught] == [str(LoadCancelled())]
    assert models.loaded is None  # nor is the one before loaded again: the user wants to unload
    assert models.state.phase == "none"


def test_a_load_that_waits_for_a_model_in_use_can_be_cancelled(ab: None, models: ModelManager) -> None:
    first = models.load("a")
    held = [models.memory.leases.begin(first)]
    thread, caught = begin(lambda: models.load_for_request("b"))
    while not models.memory.all[0].leaving:
        threading.Event().wait(0.001)
    assert models.cancel_load("b") == "b.gguf"
    thread.join(10)
    assert [type(each) for each in caught] == [LoadCancelled]
    assert models.loaded is first
    assert not models.memory.all[0].leaving
    assert held


def test_the_end_of_the_program_does_not_wait_for_a_model_in_use(ab: None, models: ModelManager) -> None:
    first: Any = models.load("a")
    held: list[object] = [models.memory.leases.begin(first)]
    thread, caught = begin(lambda: models.load_for_request("b"))
    while not models.memory.all[0].leaving:
        threading.Event().wait(0.001)
    closing = threading.Thread(target=models.close)
    closing.start()
    closing.join(30)
    thread.join(30)
    assert not closing.is_alive()
    assert first.closed == 1
    assert isinstance(caught[0], LoadCancelled)
    assert held


def test_one_name_whether_it_is_loaded_or_not(ab: None, models: ModelManager, gguf: Make) -> None:
    gguf("deep/er/c.gguf")
    gguf("deep/d.gguf")
    for name in ("a.gguf", "deep/er/c.gguf"):
        model: Model = models.load(name)
        assert (model.name, models.lease_default().name, models.state.name) == (name, name, name)
