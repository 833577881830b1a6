"""A second loaded model for results that must be identical to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loaders import loader_named
from loaders.base import Model


@pytest.fixture(scope="session")
def apart(demo_model_path: Path) -> Iterator[Model]:
    """The demo model with a separate context for each sequence: no request's numbers depend on another's."""
    loader = loader_named("llama.cpp")
    options = loader.Options.parse(
        {"n_ctx": 512, "threads": 1, "threads_batch": 1, "parallel": 1, "separate_contexts": True}
    )
    with loader.load(demo_model_path, options, lambda *_: True) as model:
        yield model
