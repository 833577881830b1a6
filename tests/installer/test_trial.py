"""The trial: what libraries say before they end the process is a clause; llama.cpp itself is asked for the cards."""

from __future__ import annotations

import pytest

from installer import trial
from installer.layout import Layout
from installer.runner import Runner
from tests.installer.stage import make_environment


@pytest.mark.parametrize(
    ("said", "clause"),
    [
        ("CUDA error: no kernel image is available for execution on the device\nggml abort", "no code for this card"),
        ("CUDA driver version is insufficient for CUDA runtime version", "driver is too old"),
        (
            "RuntimeError: Failed to load: libcudart.so.12: cannot open shared object file: No such file",
            "a library that it needs is missing: libcudart.so.12",
        ),
        (
            "Failed to load: Could not find module 'C:\\\\x\\\\llama.dll' (or one of its dependencies)",
            "a library that it needs is missing: C:",
        ),
        ("ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory", "memory is full"),
        ("ArithmeticError: with 2 threads it computes wrong numbers (an error of 0.50)", "with 2 threads"),
    ],
)
def test_what_went_wrong_is_said_in_a_clause(layout: Layout, said: str, clause: str) -> None:
    make_environment(layout)
    layout.python.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit 1\n")
    done, why = trial.computes(Runner(layout))
    assert not done
    assert clause in why
    assert trial.cards(Runner(layout)) == []


def test_what_was_tried_is_found_among_what_llama_cpp_says(layout: Layout) -> None:
    make_environment(layout)
    layout.python.write_text("#!/bin/sh\necho 100 tokens read and 20 written\necho freeing buffers\necho card: CUDA0\n")
    assert trial.computes(Runner(layout)) == (True, "100 tokens read and 20 written")
    assert trial.cards(Runner(layout)) == ["CUDA0"]
