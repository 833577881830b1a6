"""What the catalog lists, and what it says about damaged files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import modules.library.model_catalog as shelf_module
from errors import UnknownName
from modules.config.paths import Paths
from modules.library.model_catalog import ModelCatalog

Make = Callable[..., Path]


def test_an_empty_or_missing_folder_has_no_models(paths: Paths, shelf: ModelCatalog) -> None:
    assert shelf.items() == []
    paths.models.rmdir()
    assert shelf.items() == []


def test_the_header_is_told(shelf: ModelCatalog, gguf: Make) -> None:
    path = gguf("a.gguf", **{"general.file_type": 15, "llama.block_count": 1, "tokenizer.chat_template": "{{x}}"})
    (item,) = shelf.items()
    assert (item.name, item.path, item.format, item.size) == ("a.gguf", path, "GGUF", path.stat().st_size)
    assert (item.architecture, item.quantization, item.context_length) == ("llama", "Q4_K_M", 4096)
    assert (item.n_layers, item.has_template, item.problem) == (1, True, None)


def test_the_demo_model_is_read(demo_model_path: Path, paths: Paths) -> None:
    item = ModelCatalog(Paths.under(paths.root, model_dir=demo_model_path.parent)).find("SmolLM2-135M-Instruct.Q4_1")
    assert (item.architecture, item.quantization, item.context_length) == ("llama", "Q4_1", 8192)
    assert item.has_template
    assert item.problem is None


def test_what_is_no_model_is_left_out(paths: Paths, shelf: ModelCatalog, gguf: Make) -> None:
    for name in (
        "a.txt",
        "b-np",
        "c.pt",
        "d.json",
        "e.yaml",
        "f.py",
        "x.gguf.part",
        "y.incomplete",
        "z.tmp",
        ".hidden",
    ):
        (paths.models / name).write_text("")
    (paths.models / "oobabooga_llama-tokenizer").mkdir()
    for name in (
        "mmproj-model.gguf",
        "model-mmproj-f16.gguf",
        "model-imatrix.gguf",
        "imatrix.gguf",
        "sub/imatrix.gguf",
    ):
        gguf(name)
    for name in ("imatrix.dat", "model.imatrix", "imatrix_unsloth.dat"):
        (paths.models / name).write_text("")
    gguf("model.gguf")
    gguf("sub/part/model-imatrix.gguf")
    gguf("sub/model.gguf")
    assert shelf.names() == ["model.gguf", "sub"]


#: Files that may lie in the models folder: what stands there, and what the catalog lists of it.
_LYING: dict[str, str] = {
    "lock": "", ".lock": "", "download.lock": "", ".gitkeep": "", ".gitattributes": "", ".DS_Store": "",
    "Thumbs.db": "", "desktop.ini": "", "README": "", "README.md": "", "LICENSE": "", "SHA256SUMS": "",
    "Modelfile": "", "config.yaml": "", "config-user.yaml": "", "place-your-models-here.txt": "", "notes.docx": "",
    "picture.png": "", "model.zip": "", "model.tar.gz": "", "x.gguf.part": "", "x.gguf.part1": "",
    "x.gguf.crdownload": "", "x.gguf.incomplete": "", "x.gguf.download": "", "x.gguf.tmp": "", "x.gguf.aria2": "",
    "x.gguf.!ut": "", "x.gguf.opdownload": "", "Unconfirmed 123.crdownload": "", "x.gguf.sha256": "", "x.gguf~": "",
    "x.gguf x.gguf.aria2": "",  # aria2 writes into the file itself
    "x.gguf x.gguf.part": "",  # a browser keeps the place
    "x.gguf y.gguf.part": "x.gguf",
    "x.gguf": "x.gguf", "X.GGUF": "X.GGUF", "lock.gguf": "lock.gguf", "x.safetensors": "x.safetensors",
    "x.bin": "x.bin", "x.remote.yaml": "x.remote.yaml", ".x.remote.yaml": "",
    "repo/lock repo/x.gguf repo/y.gguf.part": "repo", "repo/x.gguf repo/x.gguf.aria2 repo/y.gguf": "repo",
}  # fmt: skip


@pytest.mark.parametrize("files", _LYING)
def test_only_files_of_models_are_listed(paths: Paths, shelf: ModelCatalog, files: str) -> None:
    for name in files.split("  ") if files.startswith("Unconfirmed") else files.split():
        (paths.models / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.models / name).write_bytes(b"")
    assert shelf.names() == _LYING[files].split()
    assert all(item.problem for item in shelf.items())  # they are empty


def test_a_whole_model_is_listed_beside_what_is_left_of_a_download(
    paths: Paths, shelf: ModelCatalog, gguf: Make
) -> None:
    gguf("x.gguf")
    (paths.models / "x.gguf.part").write_bytes(b"GGUF")
    assert shelf.names() == ["x.gguf"]
    assert shelf.find("x").problem is None


def test_numbers_sort_as_numbers(shelf: ModelCatalog, gguf: Make) -> None:
    for name in ("m-13B.gguf", "M-7B.gguf", "a.gguf", "7.gguf"):
        gguf(name)
    assert shelf.names() == ["7.gguf", "a.gguf", "M-7B.gguf", "m-13B.gguf"]


def test_a_split_model_is_one(shelf: ModelCatalog, gguf: Make) -> None:
    parts = [gguf(f"big-{i:05d}-of-00003.gguf") for i in (1, 2, 3)]
    (item,) = shelf.items()
    assert item.name == "big-00001-of-00003.gguf"
    assert item.size == sum(part.stat().st_size for part in parts)
    assert shelf.find("big-00002-of-00003.gguf") == item
    parts[1].unlink()
    (item,) = shelf.items()
    assert "big-00002-of-00003.gguf is missing" in str(item.problem)


@pytest.mark.parametrize("data", [b"", b"GG", b"PK\x03\x04 a zip", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 40])
def test_broken_files_are_listed_with_a_sentence(paths: Paths, shelf: ModelCatalog, data: bytes) -> None:
    (paths.models / "broken.gguf").write_bytes(data)
    (item,) = shelf.items()
    assert item.problem is not None
    assert item.problem.startswith("broken.gguf ")
    assert item.problem.endswith(".")


def test_every_truncation_of_a_good_file_is_survived(paths: Paths, shelf: ModelCatalog, gguf: Make) -> None:
    whole = gguf("a.gguf", **{"general.name": "A"}).read_bytes()
    for length in range(len(whole)):
        (paths.models / "a.gguf").write_bytes(whole[:length])
        assert shelf.find("a.gguf").problem


def test_metadata_of_a_wrong_type_is_a_problem_not_a_crash(shelf: ModelCatalog, gguf: Make) -> None:
    gguf("odd.gguf", **{"llama.context_length": "long"})
    assert "header is damaged" in str(shelf.find("odd").problem)


def test_foreign_files_say_so(paths: Paths, shelf: ModelCatalog) -> None:
    (paths.models / "weights.safetensors").write_bytes(b"x")
    assert "not in a supported format" in str(shelf.find("weights.safetensors").problem)


def test_folders(paths: Paths, shelf: ModelCatalog, gguf: Make) -> None:
    one = gguf("TheBloke_A/a.gguf")
    gguf("TheBloke_A/mmproj-a.gguf")
    gguf("TheBloke_B/b.Q4.gguf")
    gguf("TheBloke_B/b.Q8.gguf")
    (paths.models / "empty").mkdir()
    folder = paths.models / "me_llama-4.0bpw-exl2"
    folder.mkdir()
    config = {"model_type": "llama", "max_position_embeddings": 2048, "num_hidden_layers": 22}
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "exl2", "bits": 4.0}})
    )
    (folder / "output.safetensors").write_bytes(b"1234")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    items = {item.name: item for item in shelf.items()}
    assert list(items) == [
        "empty",
        "me_llama-4.0bpw-exl2",
        "TheBloke_A",
        "TheBloke_B/b.Q4.gguf",
        "TheBloke_B/b.Q8.gguf",
    ]
    assert items["TheBloke_A"].path == one
    assert "neither a GGUF file nor a config.json" in str(items["empty"].problem)
    exl2 = items["me_llama-4.0bpw-exl2"]
    assert (exl2.format, exl2.quantization, exl2.context_length, exl2.has_template) == ("EXL2", "4.0 bpw", 2048, True)
    (folder / "config.json").write_text("{")
    assert "config.json" in str(shelf.find("me_llama-4.0bpw-exl2").problem)


_DEEP = {
    "X-GGUF/UD-Q4_K_XL/x.gguf": "X-GGUF/UD-Q4_K_XL/x.gguf",
    "sub/deep/x.gguf": "sub/deep/x.gguf",
    "pub/repo/a-00001-of-00002.gguf pub/repo/a-00002-of-00002.gguf": "pub/repo/a-00001-of-00002.gguf",
    "models--u--r/snapshots/0a/x.gguf models--u--r/blobs/0": "models--u--r/snapshots/0a/x.gguf",
    "Y/y.gguf Y/Q8/y8.gguf": "Y/y.gguf Y/Q8/y8.gguf",
    "E/4bpw/config.json E/4bpw/output.safetensors E/6bpw/config.json E/6bpw/output.safetensors": "E/4bpw E/6bpw",
    "pub/llama/config.json pub/llama/model.safetensors pub/llama/checkpoint-5/config.json "
    "pub/llama/checkpoint-5/model.safetensors": "pub/llama",
    "top/config.json top/model.safetensors top/original/x.bin top/onnx/config.json": "top",
    "Z/z.gguf Z/mmproj.gguf": "Z",
    "Z/deep/mmproj-z.gguf Z/.cache/z.gguf Z/deep/z.gguf.part": "Z",
    "a/b/c/d/e/f/x.gguf": "a/b/c/d/e/f/x.gguf",
}


@pytest.mark.parametrize("files", _DEEP)
def test_models_are_found_however_deep_they_lie(paths: Paths, shelf: ModelCatalog, gguf: Make, files: str) -> None:
    for name in files.split():
        if name.endswith(".gguf"):
            gguf(name)
        else:
            (paths.models / name).parent.mkdir(parents=True, exist_ok=True)
            (paths.models / name).write_text("{}")
    names = _DEEP[files].split()
    assert sorted(shelf.names()) == sorted(names)
    for name in names:
        item = shelf.find(f"models/{name}")
        assert item.name == name
        assert ".gguf" not in name or (item.problem is None and item.path == paths.models / name)


def test_a_link_that_leads_back_ends(paths: Paths, shelf: ModelCatalog, gguf: Make) -> None:
    gguf("a/b/x.gguf")
    (paths.models / "a" / "b" / "again").symlink_to(paths.models / "a", target_is_directory=True)
    assert shelf.names() == ["a/b/x.gguf"]


@pytest.mark.parametrize("name", ["My.Model.gguf", "my.model.gguf", "My.Model", "models/My.Model.gguf"])
def test_names_are_found_loosely(shelf: ModelCatalog, gguf: Make, name: str) -> None:
    gguf("My.Model.gguf")
    assert shelf.find(name).name == "My.Model.gguf"


@pytest.mark.parametrize("name", ["", "../outside.gguf", "/etc/passwd", "models/../outside.gguf"])
def test_only_the_shelf_is_found(paths: Paths, shelf: ModelCatalog, gguf: Make, name: str) -> None:
    gguf("../outside.gguf")
    gguf("inside.gguf")
    with pytest.raises(UnknownName):
        shelf.find(name)


def test_an_unknown_name_names_the_nearest(shelf: ModelCatalog, gguf: Make) -> None:
    gguf("mistral-7b.Q4_K_M.gguf")
    with pytest.raises(UnknownName, match=r"Did you mean mistral-7b.Q4_K_M.gguf\?"):
        shelf.find("mistral-7b.Q4_K_S.gguf")


def test_a_header_is_read_once_until_the_file_changes(
    shelf: ModelCatalog, gguf: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    real = shelf_module.read_header
    monkeypatch.setattr(shelf_module, "read_header", lambda path: reads.append(path) or real(path))
    path = gguf("a.gguf")
    assert shelf.items() == shelf.items()
    assert len(reads) == 1
    os.utime(path, (1, 1))
    shelf.items()
    assert len(reads) == 2


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_that_leads_nowhere_is_told(paths: Paths, shelf: ModelCatalog) -> None:
    (paths.models / "gone.gguf").symlink_to(paths.models / "elsewhere.gguf")
    assert shelf.items()[0].problem


def test_five_hundred_models_take_less_than_a_second_of_the_processor(shelf: ModelCatalog, gguf: Make) -> None:
    for number in range(500):
        gguf(f"model-{number}.gguf", **{"tokenizer.chat_template": "x" * 2000})
    began = time.thread_time()
    assert len(shelf.items()) == 500
    assert time.thread_time() - began < 1.0
