"""Loading a folder: what is accepted, decided, reported, refused and freed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from errors import (
    BrokenPackage,
    InvalidInput,
    LoadCancelled,
    ModelFileError,
    NoGraphicsCard,
    NotEnoughMemory,
    Unavailable,
)
from loaders import loader_named
from loaders.exllamav2 import package
from loaders.exllamav2.loader import ExLlamaV2
from loaders.exllamav2.options import ExLlamaV2Options
from tests.conftest import ROOT, keep_going

card = pytest.importorskip("tests.loaders.exllamav2.card", reason="needs torch")


def options(**values: Any) -> ExLlamaV2Options:
    return ExLlamaV2Options.parse(values)


# --- what it accepts ---


@pytest.mark.parametrize(
    ("quantization", "score"),
    [
        ({"quant_method": "exl2", "bits": 4.0}, 95),
        ({"quant_method": "gptq", "bits": 4}, 85),
        (None, 30),
        ({"quant_method": "awq", "bits": 4}, 0),
        ({"quant_method": "exl3", "bits": 4}, 0),
        ({"quant_method": "bitsandbytes"}, 0),
    ],
)
def test_what_it_accepts(tmp_path: Path, quantization: Any, score: int) -> None:
    folder = card.write_folder(tmp_path / "model", quantization=quantization)
    assert ExLlamaV2.accepts(folder) == score
    (folder / "model.safetensors").unlink()
    assert ExLlamaV2.accepts(folder) == 0


def test_older_folders_say_it_by_a_file_or_their_name(tmp_path: Path) -> None:
    assert ExLlamaV2.accepts(card.write_folder(tmp_path / "Some-7B-4.0bpw-EXL2")) == 95
    gptq = card.write_folder(tmp_path / "gptq")
    (gptq / "quantize_config.json").write_text("{}")
    assert ExLlamaV2.accepts(gptq) == 85


def test_what_is_no_model_scores_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "config.json").write_text("[1]")
    assert ExLlamaV2.accepts(tmp_path / "a.gguf") == 0
    assert ExLlamaV2.accepts(tmp_path) == 0
    assert ExLlamaV2.accepts(tmp_path / "absent") == 0


def test_it_is_in_the_registry() -> None:
    assert loader_named("exllamav2") is ExLlamaV2


# --- what is missing ---


def test_a_missing_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "exllamav2" else real(name))
    told = ExLlamaV2.missing()
    assert told is not None
    assert told.startswith("ExLlamav2 requires the package exllamav2. Install it with: pip install exllamav2")
    with pytest.raises(Unavailable, match="requires the package exllamav2"):
        ExLlamaV2.load(card.write_folder(tmp_path / "model"), options(), keep_going)


@pytest.mark.parametrize(
    ("version", "driver", "words"),
    [
        ("2.13.0+cpu", True, "the installed torch 2.13.0+cpu only supports the CPU"),
        ("2.9.0+cu128", False, "no driver with a GPU was found"),
    ],
)
def test_no_cuda_is_a_sentence(monkeypatch: pytest.MonkeyPatch, version: str, driver: bool, words: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    monkeypatch.setattr(package, "_driver", lambda: driver)
    told = ExLlamaV2.missing()
    assert told is not None
    assert told.startswith("ExLlamav2 requires an NVIDIA or AMD GPU: ")
    assert words in told
    assert told.endswith("or a GGUF version of it with llama.cpp.")


def test_listing_the_loaders_imports_nothing_heavy() -> None:
    code = (
        "import sys, loaders; [each.missing() for each in loaders.LOADERS.values()]; "
        "assert not {'torch', 'exllamav2', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_nothing_is_missing_with_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.0+cu128")
    monkeypatch.setattr(package, "_driver", lambda: True)
    assert ExLlamaV2.missing() is None


def test_a_package_that_was_built_for_another_torch(
    gpu: Any, opens: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import loaders.exllamav2

    monkeypatch.delitem(sys.modules, "loaders.exllamav2.native", raising=False)
    monkeypatch.delattr(loaders.exllamav2, "native", raising=False)

    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "loaders.exllamav2.native":
                raise OSError("exllamav2_ext.so: undefined symbol: _ZN3c10\nmore")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(BrokenPackage, match=r"cannot use the installed package exllamav2: OSError: .*undefined symbol"):
        opens()


def test_torch_without_a_card(opens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoGraphicsCard, match="torch finds no usable one"):
        opens()


def test_importing_keeps_torch_threads(exl: Any, gpu: Any) -> None:
    import torch

    import loaders.exllamav2.native

    assert loaders.exllamav2.native.exllamav2 is exl
    if (loaders.exllamav2.native._threads or 1) > 1:
        assert torch.get_num_threads() > 1


# --- options ---


@pytest.mark.parametrize(
    ("text", "split"),
    [("", []), ("auto", []), ("20,7,7", [20, 7, 7]), (" 17.5 , 24 ", [17.5, 24]), ("0,10", [0, 10])],
)
def test_gpu_split(text: str, split: list[float]) -> None:
    assert options(gpu_split=text).parse_gpu_split() == split


@pytest.mark.parametrize("text", ["a", "20;7", "-1,3", "0", "nan", "inf,1", "20,,7"])
def test_a_gpu_split_that_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="gpu_split must be a list of gigabytes such as 20,7,7"):
        options(gpu_split=text).parse_gpu_split()


def test_autosplit_wins() -> None:
    assert options(gpu_split="20,7", autosplit=True).parse_gpu_split() == []


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, "f16"),
        ({"cache_type": "fp16"}, "f16"),
        ({"cache_type": 8}, "q8_0"),
        ({"cache_type": "Q6"}, "q6_0"),
        ({"cache_type": "4bit"}, "q4_0"),
        ({"cache_8bit": True}, "q8_0"),
        ({"cache_4bit": True}, "q4_0"),
        ({"cache_4bit": True, "cache_type": "q4"}, "q4_0"),
    ],
)
def test_cache_type_is_what_was_asked_for(opens: Any, values: dict[str, Any], kind: str) -> None:
    assert options(**values).choose_cache_type() == kind
    model = opens(**values)
    assert type(model._weights.cache).__name__ == card.BITS[kind]


@pytest.mark.parametrize("values", [{"cache_8bit": True, "cache_4bit": True}, {"cache_8bit": True, "cache_type": "q4"}])
def test_cache_types_that_disagree(opens: Any, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="contradict"):
        opens(**values)


def test_every_option_reaches_the_config(opens: Any) -> None:
    config = opens(
        max_seq_len=1000, alpha_value=2.5, compress_pos_emb=2, num_experts_per_token=3, chunk_size=700,
        no_flash_attn=True, no_xformers=True, parallel=2,
    )._weights.config  # fmt: skip
    assert config.max_seq_len == 1024, "whole pages"
    assert config.scale_alpha_value == 2.5
    assert config.scale_pos_emb == 2
    assert config.num_experts_per_token == 3
    assert config.max_input_len == 512, "whole pages"
    assert config.no_flash_attn
    assert config.no_xformers
    assert config.no_sdpa, "exllamav2's SDPA has no causal mask"


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ({"rope_type": "default", "rope_theta": 100000.0}, {"rotary_embedding_base": 100000.0}),
        ({"rope_type": "linear", "factor": 4.0, "rope_theta": 5e4}, {"scale_pos_emb": 4.0}),
        ({"full_attention": {"rope_theta": 1e6}, "sliding_attention": {}}, {"rotary_embedding_base": 1e6}),
        (
            {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.5},
            {"alt_rope_method": "yarn", "yarn_rope_factor": 2.0, "partial_rotary_factor": 0.5},
        ),
        (
            {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
             "original_max_position_embeddings": 8192},
            {"alt_rope_method": "llama3", "l3_rope_factor": 8.0, "l3_rope_high_freq_factor": 4.0},
        ),
        (
            {"rope_type": "longrope", "long_factor": [1.0], "short_factor": [2.0],
             "original_max_position_embeddings": 4096},
            {"alt_rope_method": "su", "scale_long_factor": [1.0], "original_max_seq_len": 4096},
        ),
    ],
)  # fmt: skip
def test_positions_as_transformers_5_writes_them(
    opens: Any, tmp_path: Path, parameters: dict[str, Any], fields: dict[str, Any]
) -> None:
    config = _with_rope(opens, tmp_path, parameters)._weights.config
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rope_type": "new"}, "does not support its RoPE scaling"),
        ({"rope_type": "yarn"}, "incomplete rope_parameters"),
    ],
)
def test_positions_that_are_not_known(opens: Any, tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        _with_rope(opens, tmp_path, parameters)


def _with_rope(opens: Any, tmp_path: Path, parameters: dict[str, Any]) -> Any:
    folder = card.write_folder(tmp_path / "five")
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "rope_parameters": parameters}))
    return opens(folder=folder)


def test_rope_freq_base_wins(opens: Any) -> None:
    config = opens(rope_freq_base=50_000, alpha_value=2)._weights.config
    assert (config.rotary_embedding_base, config.scale_alpha_value) == (50_000, 1)


def test_a_split_by_hand_and_one_too_many(opens: Any) -> None:
    model = opens(gpu_split="20")
    assert model._weights.model.split == [20.0]
    assert "split across the GPUs as requested: 20 GB" in model.notes
    with pytest.raises(InvalidInput, match="gpu_split 20,7 lists more GPUs than this machine has: one GPU"):
        opens(gpu_split="20,7")


def test_the_context_without_a_wish(opens: Any, tmp_path: Path) -> None:
    folder = card.write_folder(tmp_path / "long", context=131072)
    model = opens(folder=folder, max_seq_len=0)
    assert model.context_length == 8192
    assert "context: 8,192 tokens of the model's 131,072" in model.notes
    assert opens(max_seq_len=0).context_length == 4096


def test_why_requests_do_not_run_together(opens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert "up to 4 requests run together (flash-attn is installed)" in opens().notes
    assert "requests run one after another: no_flash_attn is on" in opens(no_flash_attn=True).notes
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=0: (7, 5))
    assert "requires a GPU of the RTX 30 series" in "\n".join(opens().notes)


def test_tensor_parallelism_needs_flash_attn(opens: Any) -> None:
    with pytest.raises(InvalidInput, match="enable_tp requires flash-attn"):
        opens(paged=False, enable_tp=True)


# --- drafts ---


def test_a_draft_model_that_is_not_there(opens: Any) -> None:
    with pytest.raises(InvalidInput, match="Draft model folder not found: 'absent'"):
        opens(draft_model="absent")


def test_two_ways_to_draft(opens: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be combined"):
        opens(draft_model="x", ngram_draft=True)


def test_a_draft_model_of_another_family(opens: Any, tmp_path: Path) -> None:
    other = card.write_folder(tmp_path / "models" / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 258', '"vocab_size": 1000'))
    with pytest.raises(InvalidInput, match="The draft model other has 1,000 token ids, but this model has 258"):
        opens(draft_model="other")


# --- memory, cancelling, broken folders ---


def test_too_little_memory_is_said_before_anything_is_read(opens: Any, gpu: Any, monkeypatch: Any) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _=0: (500_000_000, 24_000_000_000))
    with pytest.raises(
        NotEnoughMemory, match=r"net needs about 0.7 GB of memory, but only 0.5 GB is free. Use a stronger"
    ):
        opens()
    assert not gpu.instances


@pytest.mark.parametrize("words", ["CUDA out of memory. Tried", "Insufficient VRAM for model and cache"])
def test_a_card_that_fills_while_loading(opens: Any, gpu: Any, words: str) -> None:
    gpu.filling = RuntimeError(words)
    with pytest.raises(NotEnoughMemory, match="Use a stronger quantization"):
        opens()
    assert gpu.instances[-1].unloaded


def test_another_error_stays_what_it_is_and_memory_is_given_back(opens: Any, gpu: Any) -> None:
    gpu.filling = RuntimeError("CUDA error: an illegal memory access")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        opens()
    assert gpu.instances[-1].unloaded


def test_loading_tells_how_far_it_is_and_can_be_cancelled(opens: Any, gpu: Any) -> None:
    seen: list[float] = []

    def watch(fraction: float, _: str) -> bool:
        seen.append(fraction)
        return True

    opens(progress=watch)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(LoadCancelled):
        opens(progress=lambda fraction, _: fraction < 0.2)
    assert gpu.instances[-1].unloaded


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", "{", "config.json cannot be read"),
        ("config.json", '{"architectures": ["LlamaForCausalLM"]}', "ExLlamaV2 cannot load it"),
        ("tokenizer.json", None, "it has no tokenizer.json"),
        ("tokenizer.json", "{}", "cannot be read"),
        ("model.safetensors", None, "no .safetensors files"),
    ],
)
def test_a_broken_folder(opens: Any, tmp_path: Path, file: str, text: str | None, words: str) -> None:
    folder = card.write_folder(tmp_path / "broken")
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(ModelFileError, match=words):
        opens(folder=folder)
