"""LoRA adapters: applied, changed and removed while requests come and go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from errors import IncompatibleAdapter
from loaders.base import Lora
from tests.loaders.exllamav2.test_engine import GUIDED, WAYS, guided, say, words

card = pytest.importorskip("tests.loaders.exllamav2.card", reason="needs torch")

ONE = 0.5 * 2 * 64 + 64 * 2  # what an adapter of write_lora adds: the sum of its tensors


@WAYS
def test_on_and_off_and_the_base_is_exact(opens: Any, tmp_path: Path, paged: bool) -> None:
    model = opens(paged=paged)
    prompt = words(1, 300)
    base, _ = say(model, prompt, 6)
    model.set_loras([Lora(card.write_lora(tmp_path / "a"))])
    with_lora, report = say(model, prompt, 6)
    assert with_lora == card.greedy(prompt, 6, ONE) != base
    assert report.reused_tokens == 0, "what was cached under the base is not reused"
    assert [lora.path.name for lora in model.loras] == ["a"]
    model.set_loras([])
    again, report = say(model, prompt, 6)
    assert again == base == card.greedy(prompt, 6)
    assert report.reused_tokens == 0
    layer = model._weights.model.modules_dict["model.layers.0.self_attn.q_proj"]
    assert not layer.lora_a_tensors
    assert not layer.lora_b_tensors


@WAYS
def test_several_at_once_and_their_scales(opens: Any, tmp_path: Path, paged: bool) -> None:
    model = opens(paged=paged)
    a, b = card.write_lora(tmp_path / "a"), card.write_lora(tmp_path / "b", 0.25)
    model.set_loras([Lora(a), Lora(b, 0.5)])
    both = ONE + 0.25 * 2 * 64 + 0.5 * 64 * 2
    assert say(model, words(1, 20), 6)[0] == card.greedy(words(1, 20), 6, both)
    model.set_loras([Lora(a), Lora(b, 0.0)])
    assert say(model, words(1, 20), 6)[0] == card.greedy(words(1, 20), 6, ONE)


def test_a_folder_that_was_trained_again_is_loaded_again(opens: Any, tmp_path: Path) -> None:
    model = opens(paged=False)
    model.set_loras([Lora(card.write_lora(tmp_path / "a"))])
    shutil.rmtree(tmp_path / "a")
    again = Lora(card.write_lora(tmp_path / "a", 0.25))
    weights = again.path / "adapter_model.safetensors"
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 10**9))  # however coarse the file system's clock is
    model.set_loras([again])
    assert say(model, words(1, 20), 6)[0] == card.greedy(words(1, 20), 6, 0.25 * 2 * 64 + 64 * 2)


def test_guidance_forgets_too(opens: Any, tmp_path: Path) -> None:
    model = opens(paged=False)
    prompt, negative = words(1, 40), words(2, 10)
    base = say(model, prompt, 5, GUIDED, negative_ids=negative)[0]
    model.set_loras([Lora(card.write_lora(tmp_path / "a"))])
    changed, report = say(model, prompt, 5, GUIDED, negative_ids=negative)
    assert changed != base == guided(prompt, negative, 5)
    assert report.reused_tokens == 0


@pytest.mark.parametrize(
    ("spoil", "words_"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "not a folder with an adapter_config.json"),
        (
            lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
            "for security reasons",
        ),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "KeyError"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "made for another model"),
    ],
)
def test_what_is_no_adapter_changes_nothing(opens: Any, tmp_path: Path, spoil: Any, words_: str) -> None:
    model = opens()
    good = Lora(card.write_lora(tmp_path / "good"))
    model.set_loras([good])
    bad = card.write_lora(tmp_path / "bad")
    spoil(bad)
    with pytest.raises(IncompatibleAdapter, match=words_):
        model.set_loras([good, Lora(bad)])
    assert [lora.path.name for lora in model.loras] == ["good"]
    assert say(model, words(1, 20), 5)[0] == card.greedy(words(1, 20), 5, ONE)


def test_an_adapter_of_another_model_leaves_nothing_in_the_layers(opens: Any, tmp_path: Path) -> None:
    """The first of its layers fits, the second does not exist: the first must not stay."""
    from safetensors.torch import load_file, save_file

    model = opens()
    bad = card.write_lora(tmp_path / "bad")
    other = card.write_lora(tmp_path / "other", key="model.layers.7.self_attn.q_proj")
    file = "adapter_model.safetensors"
    save_file({**load_file(str(bad / file)), **load_file(str(other / file))}, str(bad / file))
    with pytest.raises(
        IncompatibleAdapter, match="The LoRA bad cannot be used with this model: it was made for another model"
    ):
        model.set_loras([Lora(bad)])
    layer = model._weights.model.modules_dict["model.layers.0.self_attn.q_proj"]
    assert not layer.lora_a_tensors
    assert model.loras == ()
    assert say(model, words(1, 20), 5)[0] == card.greedy(words(1, 20), 5)
