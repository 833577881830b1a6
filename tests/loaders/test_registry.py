"""The table of loaders is only imported by those that ask for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loaders
from loaders import registry
from tests.conftest import ROOT

#: What is started as a process of its own, again and again.
SMALL = (
    "loaders.grammar.worker", "loaders.llamacpp.load_trial", "loaders.llamacpp.placement.devices",
    "loaders.llamacpp.placement.dry_run", "modules.prompts.sandbox.worker",
)  # fmt: skip


def test_small_processes_build_no_options() -> None:
    code = (
        "import importlib, sys; importlib.import_module(sys.argv[1]); "
        "print(*sorted({'loaders.registry', 'pydantic'} & set(sys.modules)))"
    )
    found = {
        name: subprocess.run([sys.executable, "-c", code, name], cwd=ROOT, capture_output=True, text=True, check=True)
        for name in SMALL
    }
    assert {name: ran.stdout.split() for name, ran in found.items()} == {name: [] for name in SMALL}


def test_the_table_is_there_for_all_others() -> None:
    assert loaders.LOADERS is registry.LOADERS
    assert loaders.loader_named("LLAMA cpp") is registry.LOADERS["llama.cpp"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = loaders.nothing  # type: ignore[attr-defined]
