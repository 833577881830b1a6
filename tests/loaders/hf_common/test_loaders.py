"""From files to a model: what the HF loaders accept, refuse with a sentence, decide and free."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from errors import InvalidInput, LoadCancelled, ModelFileError, Unavailable
from loaders import loader_named
from loaders.base import Model
from loaders.huggingface.options import TransformersOptions
from loaders.llamacpp.placement import dry_run
from loaders.llamacpp_hf.loader import LlamaCppHF
from tests.loaders.conftest import opened
from tests.loaders.hf_common.test_model import QUESTION, reply


def folder(path: Path, *, weights: str = "model.safetensors", **config: Any) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
    if weights:
        (path / weights).write_bytes(b"x" * 100)
    return path


def load(path: Path, **options: Any) -> Model:
    return opened("Transformers", path, **options)


@pytest.mark.parametrize(
    ("config", "score"),
    [({}, 60), ({"quantization_config": {"quant_method": "gptq"}}, 10), ({"is_encoder_decoder": True}, 0)],
)
def test_what_transformers_accepts(tmp_path: Path, config: Any, score: int) -> None:
    assert loader_named("Transformers").accepts(folder(tmp_path / "m", **config)) == score
    assert loader_named("Transformers").accepts(folder(tmp_path / "none", weights="", **config)) == 0
    assert loader_named("Transformers").accepts(tmp_path / "m" / "config.json") == 0


def test_gguf_files_prefer_the_native_loader(demo_model_path: Path) -> None:
    scores = {
        name: loader_named(name).accepts(demo_model_path) for name in ("llama.cpp", "llamacpp_HF", "Transformers")
    }
    assert scores["llama.cpp"] > scores["llamacpp_HF"] > scores["Transformers"] == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: folder(p, is_encoder_decoder=True), "encoder-decoder"),
        (lambda p: folder(p, weights="pytorch_model.bin"), "pickled"),
        (lambda p: folder(p, weights=""), "contains no weights"),
        (lambda p: folder(p, auto_map={"AutoModel": "x.Y"}), "--trust-remote-code"),
        (lambda p: (folder(p) / "config.json").write_text("{") and p, "config.json cannot be read"),
        (lambda p: (folder(p) / "config.json").write_text("[]") and p, "is invalid"),
        (lambda p: p.mkdir() or p, "no config.json"),
    ],
)
def test_bad_folders_are_refused_by_sentence(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path / "model")
    with pytest.raises(ModelFileError, match=words):
        load(tmp_path / "model")


def test_broken_weights_and_unknown_architectures(hf_folder: Path, tmp_path: Path) -> None:
    for change in ({"architectures": ["Nonsense"], "model_type": "nonsense"}, {}):
        broken = tmp_path / f"broken{len(change)}"
        broken.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(hf_folder / name, broken)
        config = json.loads((hf_folder / "config.json").read_text())
        (broken / "config.json").write_text(json.dumps({**config, **change}))
        (broken / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{not a header}")
        with pytest.raises(ModelFileError, match="transformers reported"):
            load(broken)


def test_bits_need_a_card(hf_folder: Path) -> None:
    with pytest.raises(Unavailable, match="NVIDIA"):
        load(hf_folder, load_in_4bit=True)


def test_memory_options_are_read_as_people_write_them() -> None:
    options = TransformersOptions(gpu_memory="10, 3500MiB 5gb", cpu_memory="24")
    assert options.parse_gpu_memory() == ["10GiB", "3500MiB", "5gb"]
    assert options.parse_cpu_memory() == "24GiB"
    with pytest.raises(InvalidInput, match="gpu_memory"):
        TransformersOptions(gpu_memory="lots").parse_gpu_memory()


def test_loading_can_be_cancelled_at_every_step(hf_folder: Path) -> None:
    loader = loader_named("Transformers")
    for stop_at in (0.01, 0.1, 0.3):
        with pytest.raises(LoadCancelled):
            loader.load(hf_folder, loader.Options(), lambda fraction, _doing, at=stop_at: fraction < at)


def test_precision_attention_and_rope_are_honoured(hf_folder: Path) -> None:
    import torch

    with load(hf_folder, bf16=True, attn_implementation="eager", rope_freq_base=500_000, max_seq_len=512) as model:
        pretrained = model.pretrained  # type: ignore[attr-defined]
        assert pretrained.dtype is torch.bfloat16
        assert pretrained.config._attn_implementation == "eager"
        assert pretrained.config.rope_parameters["rope_theta"] == 500_000
        assert model.context_length == 512
        assert any("bf16 is on" in note for note in model.notes)
    assert model.pretrained.config  # type: ignore[attr-defined]


def test_where_llamacpp_hf_has_its_tokenizer_from(demo_model_path: Path, hf_folder: Path, tmp_path: Path) -> None:
    beside = tmp_path / "with-files"
    beside.mkdir()
    (beside / demo_model_path.name).symlink_to(demo_model_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(hf_folder / name, beside)
    small = {"n_ctx": 512, "threads": 1, "threads_batch": 1}
    with opened("llamacpp_HF", beside, **small) as model:
        assert "tokenizer: from the folder with-files" in model.notes
        assert reply(model, QUESTION)[0] == "The capital of France is Paris."
    shared = tmp_path / "oobabooga_llama-tokenizer"
    shared.mkdir()
    (shared / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})
    )
    (tmp_path / demo_model_path.name).symlink_to(demo_model_path)
    with opened("llamacpp_HF", tmp_path / demo_model_path.name, **small, cfg_cache=True) as model:
        assert any("has another vocabulary" in note for note in model.notes)
        assert model.context_length == 512
        assert reply(model, QUESTION, negative="x" * 300, guidance_scale=1.5)[0]


def test_llamacpp_hf_learns_as_llama_cpp_does(
    demo_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that a load took beyond the breakdown, and the speed of replies, separately from llama.cpp's."""
    from loaders.base import Request
    from loaders.llamacpp.placement import measurements
    from loaders.params import SamplingParams

    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    monkeypatch.setattr(measurements, "_FAR", 1e9)  # machines that run tests may be very busy
    options = {"n_ctx": 512, "threads": 1, "threads_batch": 1}
    assert LlamaCppHF.forecast(demo_model_path, LlamaCppHF.Options.parse(options))  # it measures how fast memory is
    for _ in range(2):
        with opened("llamacpp_HF", demo_model_path, **options) as model:
            assert model.warning() == ""
            list(model.generate(Request([100, 200, 300], SamplingParams(ban_eos_token=True), 24)))
    (figures,) = json.loads((tmp_path / "measured.json").read_text()).values()
    dry_run._remembered.cache_clear()
    assert len(figures["pace Q4_1 llamacpp_HF"]) == 2
    assert "pace Q4_1" not in figures
    assert all(0 < each < 200 * 2**20 for each in figures["beyond"])
    found = LlamaCppHF.forecast(demo_model_path, LlamaCppHF.Options.parse(options))
    assert found
    assert found.devices[0].margin > 0
    assert "corrected by the speed of earlier replies" in found.sentence


def test_closing_ends_requests_and_gives_back(demo_model_path: Path) -> None:
    from errors import ModelClosed
    from loaders.base import Request
    from loaders.params import SamplingParams

    model = opened("llamacpp_HF", demo_model_path, n_ctx=512, threads=1, threads_batch=1)
    stream = model.generate(Request(model.tokenizer.encode("x"), SamplingParams(ban_eos_token=True), 400))
    waiting = model.generate(Request(model.tokenizer.encode("y")))
    next(stream)
    model.close()
    for each in (stream, waiting):
        with pytest.raises(ModelClosed):
            list(each)
    model.close()
    with pytest.raises(ModelClosed):
        model.generate(Request([1]))
