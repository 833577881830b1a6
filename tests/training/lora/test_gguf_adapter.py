"""An adapter as GGUF: llama.cpp computes the same from it as transformers from the folder; unsupported ones cause
errors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import Conflict, IncompatibleAdapter, UserError
from loaders import loader_named
from loaders.base import Lora, Request
from loaders.llamacpp.gguf import read_header
from modules.training.lora.gguf_adapter import export_gguf, permute_heads
from tests.conftest import keep_going


def adapter_of(base: Path, folder: Path, std: float = 0.05, **more: Any) -> Path:
    """A LoRA of random numbers for a base, saved by peft."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    targets = ["q_proj", "k_proj", "v_proj", "down_proj"]
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": targets, "task_type": "CAUSAL_LM", **more})
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=std)
    model.save_pretrained(str(folder))
    return folder


def test_the_rows_of_a_head_are_put_in_llama_cpps_order() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert permute_heads(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert permute_heads(rows, 1)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_it_acts_as_the_folder_does(hf_folder: Path, demo_model_path: Path, tmp_path: Path) -> None:
    """Would show rows in a wrong order, which still make fluent text."""
    folder, file = adapter_of(hf_folder, tmp_path / "a", 0.15, target_modules=["q_proj", "k_proj"]), tmp_path / "a.gguf"
    export_gguf(hf_folder, folder, file)

    def moved(loader_name: str, model_path: Path, adapter: Path) -> np.ndarray:
        """How the adapter changes the logits after a text."""
        loader = loader_named(loader_name)
        with loader.load(model_path, loader.Options.parse({"n_ctx": 256, "max_seq_len": 256}), keep_going) as model:
            request = Request(model.tokenizer.encode("The capital of France is the city of"))
            before = model.next_logits(request)
            model.set_loras([Lora(adapter)])
            return np.asarray(model.next_logits(request) - before)

    ours = moved("llama.cpp", demo_model_path, file)
    theirs = moved("Transformers", hf_folder, folder)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert np.abs(theirs).max() > 1


def test_what_the_file_says(tiny_folder: Path, tmp_path: Path) -> None:
    export_gguf(tiny_folder, adapter_of(tiny_folder, tmp_path / "a"), tmp_path / "a.gguf")
    said = read_header(tmp_path / "a.gguf").metadata
    assert said["general.type"] == "adapter"
    assert (said["general.architecture"], said["adapter.lora.alpha"]) == ("llama", 8)
    stable = adapter_of(tiny_folder, tmp_path / "stable", use_rslora=True)
    export_gguf(tiny_folder, stable, tmp_path / "stable.gguf")
    assert read_header(tmp_path / "stable.gguf").metadata["adapter.lora.alpha"] == 16  # 8 times the root of rank 4
    with pytest.raises(Conflict, match="Remove it first"):
        export_gguf(tiny_folder, stable, tmp_path / "a.gguf")


def spoil(change: dict[str, Any]) -> Callable[[Path], None]:
    def spoiled(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))

    return spoiled


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (spoil({"use_dora": True}), "not a plain LoRA"),
        (spoil({"bias": "all"}), "not a plain LoRA"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "safetensors cannot be read"),
    ],
)
def test_what_is_no_plain_lora_is_a_sentence(
    tiny_folder: Path, tmp_path: Path, broken: Callable[[Path], None], said: str
) -> None:
    folder = adapter_of(tiny_folder, tmp_path / "a")
    broken(folder)
    with pytest.raises(IncompatibleAdapter, match=said):
        export_gguf(tiny_folder, folder, tmp_path / "a.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_model_of_another_kind_is_a_sentence(tiny_folder: Path, tmp_path: Path) -> None:
    folder = adapter_of(tiny_folder, tmp_path / "a")
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    spoiled = {**json.loads((other / "config.json").read_text()), "architectures": ["GPTNeoXForCausalLM"]}
    (other / "config.json").write_text(json.dumps(spoiled))
    with pytest.raises(UserError, match="GPTNeoXForCausalLM cannot be converted for"):
        export_gguf(other, folder, tmp_path / "a.gguf")
