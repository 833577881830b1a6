"""Occasional computations run in short-lived threads; otherwise OpenMP's pools would outnumber the cores."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from loaders import loader_named
from loaders.base import Request
from loaders.llamacpp import native, openmp, thread_control
from loaders.llamacpp.batch import LlamaBatch
from loaders.llamacpp.engine import attention
from loaders.llamacpp.placement import measurements
from loaders.llamacpp.thread_control import CpuUse


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
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    monkeypatch.setattr(thread_control, "DISTURBING", float("inf"))  # whatever other tests do
    computed: set[threading.Thread] = set()
    decode = native.LlamaContext.decode

    def noted(self: native.LlamaContext, batch: LlamaBatch) -> int:
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


def processes_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="GCC's runtime is only used on Linux")
def test_an_idle_engine_has_no_pool(demo_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    end, rested = openmp.end_pool, threading.Event()

    def noted() -> None:
        before, until = processes_threads(), time.monotonic() + 1
        end()
        if threading.current_thread().name == "llama.cpp":
            while (
                processes_threads() > before - 2 and time.monotonic() < until
            ):  # the system removes them a moment later
                time.sleep(0.01)
            if left := before - processes_threads():  # none at the first rest: nothing was computed yet
                ended.append(left)
                rested.set()

    monkeypatch.setattr(openmp, "end_pool", noted)
    monkeypatch.setattr(CpuUse, "others", lambda _: 0.0)  # whatever else this machine computes
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 512, "threads": 3})
    with loader.load(demo_model_path, options, lambda *_: True) as model:
        model.next_logits(Request([1, 2, 3]))
        assert rested.wait(30)
        assert ended[0] == 2  # the third is the engine's own
        assert model.next_logits(Request([1, 2, 3])).shape  # and begins anew
