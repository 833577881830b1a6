"""Occasional computations run in short-lived threads; otherwise OpenMP's pools would outnumber the cores."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loaders import loader_named
from loaders.base import Request
from loaders.llamacpp import native, openmp
from loaders.llamacpp.engine import attention


def test_a_result_and_an_error_come_through() -> None:
    assert openmp.run_in_short_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        openmp.run_in_short_thread(lambda: 1 // 0)


def test_ctrl_c_comes_after_the_end() -> None:
    """What the computation uses is freed then."""
    ended: list[bool] = []

    def compute() -> None:
        _thread.interrupt_main()
        time.sleep(0.2)
        ended.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test worker leaves it to its parent
    try:
        with pytest.raises(KeyboardInterrupt):
            openmp.run_in_short_thread(compute)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended


def test_after_a_load_and_an_embedding_the_engine_alone_has_a_pool(
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: set[threading.Thread] = set()
    decode = native.LlamaContext.decode

    def noted(self: native.LlamaContext, batch: native.LlamaBatch) -> int:
        computed.add(threading.current_thread())
        return decode(self, batch)

    monkeypatch.setattr(native.LlamaContext, "decode", noted)
    attention.time_kernels.cache_clear()
    loader = loader_named("llama.cpp")
    with loader.load(demo_model_path, loader.Options.parse({"n_ctx": 512}), lambda *_: True) as model:
        model.next_logits(Request([1, 2, 3]))
        model.embed([[1, 2, 3]])
        assert len(computed) >= 3  # which kernel, how many threads, the engine, the embedding
        assert [thread.name for thread in computed if thread.is_alive()] == ["llama.cpp"]


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "700"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_spin_briefly_unless_the_user_says_how_to_wait(given: dict[str, str], spins: str) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = "import os, loaders.llamacpp.openmp as o; o.limit_spinning(); print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", program], env=bare | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == spins
