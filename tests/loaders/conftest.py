"""SmolLM2 as a Hugging Face folder, made once from the demo model's GGUF, and the models on both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders import loader_named
from loaders.base import Model
from tests.conftest import ROOT, keep_going


@pytest.fixture(scope="session")
def hf_folder(demo_model_path: Path) -> Path:
    """The demo model's weights in float32; making them takes half a minute, once."""
    folder = ROOT / "cache" / "test-models" / "SmolLM2-135M-Instruct"
    if not (folder / "tokenizer.json").is_file():
        subprocess.run(
            [sys.executable, Path(__file__).parent / "hf" / "dequantize.py", demo_model_path, folder], check=True
        )
    return folder


def opened(name: str, path: Path, **options: Any) -> Model:
    loader = loader_named(name)
    return loader.load(path, loader.Options.parse(options), keep_going)


@pytest.fixture(scope="session")
def transformers_model(hf_folder: Path) -> Iterator[Model]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with opened("Transformers", hf_folder, max_seq_len=2048) as model:
        yield model
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llamacpp_hf_model(demo_model_path: Path) -> Iterator[Model]:
    with opened("llamacpp_HF", demo_model_path, n_ctx=2048, threads=1, threads_batch=1) as model:
        yield model
