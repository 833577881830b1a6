"""The models of the HF loaders, on the demo model as a GGUF and as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders import loader_named
from loaders.base import Model
from tests.conftest import keep_going


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
    options = {"n_ctx": 2048, "threads": 1, "threads_batch": 1, "flash_attn": "on"}  # as demo_model has it
    with opened("llamacpp_HF", demo_model_path, **options) as model:
        yield model
