"""Each of the HF loaders that a CPU can run, in turn; nothing where torch is not installed."""

from __future__ import annotations

import importlib.util

import pytest

from loaders.base import Model

#: Installed by requirements-torch.txt; run_tests.sh installs it, so that nothing is skipped there.
_LACKING = any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft"))
collect_ignore_glob = ["test_*.py"] if _LACKING else []


@pytest.fixture(params=["Transformers", "llamacpp_HF"])
def model(request: pytest.FixtureRequest) -> Model:
    """Each of the HF loaders that a CPU can run, in turn."""
    name = {"Transformers": "transformers_model", "llamacpp_HF": "llamacpp_hf_model"}[request.param]
    found = request.getfixturevalue(name)
    assert isinstance(found, Model)
    return found
