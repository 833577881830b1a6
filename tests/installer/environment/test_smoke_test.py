"""The smoke test: last messages of libraries become a clause; llama.cpp itself is asked for the GPUs."""

from __future__ import annotations

import pytest

from installer.environment import smoke_test
from installer.layout import Layout
from installer.runner import Runner
from tests.installer.stage import make_environment


@pytest.mark.parametrize(
    ("said", "clause"),
    [
        ("CUDA error: no kernel image is available for execution on the device\nggml abort", "no code for this GPU"),
        ("CUDA driver version is insufficient for CUDA runtime version", "driver is too old"),
        (
            "RuntimeError: Failed to load: libcudart.so.12: cannot open shared object file: No such file",
            "a required library is missing: libcudart.so.12",
        ),
        (
            "Failed to load: Could not find module 'C:\\\\x\\\\llama.dll' (or one of its dependencies)",
            "a required library is missing: C:",
        ),
        ("ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory", "ran out of memory"),
        ("ArithmeticError: with 2 threads it computes wrong numbers (an error of 0.50)", "with 2 threads"),
    ],
)
def test_what_went_wrong_is_said_in_a_clause(layout: Layout, said: str, clause: str) -> None:
    make_environment(layout)
    layout.python.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit 1\n")
    done, why = smoke_test.can_compute(Runner(layout))
    assert not done
    assert clause in why
    assert smoke_test.list_usable_gpus(Runner(layout)) == []


def test_what_was_tried_is_found_among_what_llama_cpp_says(layout: Layout) -> None:
    make_environment(layout)
    layout.python.write_text("#!/bin/sh\necho 100 tokens read and 20 written\necho freeing buffers\necho card: CUDA0\n")
    assert smoke_test.can_compute(Runner(layout)) == (True, "100 tokens read and 20 written")
    assert smoke_test.list_usable_gpus(Runner(layout)) == ["CUDA0"]
