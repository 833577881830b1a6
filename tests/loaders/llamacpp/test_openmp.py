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
from loaders.base import Model, Request
from loaders.llamacpp import native, openmp, spinning
from loaders.llamacpp.engine import attention
from loaders.llamacpp.placement import measurements


def test_a_result_and_an_error_come_through() -> None:
    assert spinning.run_in_short_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        spinning.run_in_short_thread(lambda: 1 // 0)


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
            spinning.run_in_short_thread(compute)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended


def test_after_a_load_and_an_embedding_the_engine_alone_has_a_pool(
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
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


def processes_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="GCC's runtime is only used on Linux")
def test_a_sleeping_pool_comes_and_goes(demo_model: Model) -> None:
    demo_model.next_logits(Request([1, 2, 3]))  # the runtime is loaded
    before = processes_threads()
    pool = openmp.SleepingPool(3)
    assert processes_threads() == before + 3  # its own thread, and two of the runtime
    pool.close()
    end = time.monotonic() + 30  # the system removes ended threads a moment later
    while processes_threads() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert processes_threads() <= before


@pytest.mark.parametrize(
    ("given", "can"), [({}, True), ({"GOMP_SPINCOUNT": "7"}, False), ({"OMP_WAIT_POLICY": "passive"}, False)]
)
def test_who_says_how_threads_wait_is_obeyed(
    demo_model: Model, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], can: bool
) -> None:
    demo_model.next_logits(Request([1, 2, 3]))
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert openmp.can_shorten() is (can and sys.platform == "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="GCC's runtime is only used on Linux")
def test_an_idle_engine_has_no_pool(demo_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    end, rested = openmp.end_pool, threading.Event()

    def noted() -> None:
        before = processes_threads()
        end()
        if threading.current_thread().name == "llama.cpp" and processes_threads() < before:
            ended.append(before - processes_threads())
            rested.set()

    monkeypatch.setattr(openmp, "end_pool", noted)
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 512, "threads": 3})
    with loader.load(demo_model_path, options, lambda *_: True) as model:
        model.next_logits(Request([1, 2, 3]))
        assert rested.wait(30)
        assert ended[0] == 2  # the third is the engine's own
        assert model.next_logits(Request([1, 2, 3])).shape  # and begins anew
