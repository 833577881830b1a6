"""How many threads compute follows what other programs use of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from loaders.base import Model, Request
from loaders.llamacpp import native, thread_control
from loaders.llamacpp.thread_control import CALM, INTERVAL, MANY, SHORTEST, CpuUse, ThreadControl

CORES = 4


class Machine(CpuUse):
    """What other programs use, in cores, and how many threads want to run; a context's number of threads."""

    def __init__(self) -> None:
        self.time, self.busy, self.wanting = 0.0, 0.0, 1
        self.threads = CORES

    def others(self) -> float:
        return self.busy

    def runnable(self) -> int:
        return self.wanting

    def limit_threads(self, most: int) -> None:
        self.threads = most


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)
    return Machine()


def control(machine: Machine) -> ThreadControl:
    return ThreadControl([machine], machine, lambda: machine.time)


def step(machine: Machine, threads: ThreadControl, rows: int = 1, seconds: float = INTERVAL) -> int:
    machine.time += seconds
    threads.adapt(rows)
    return machine.threads


@pytest.mark.parametrize(
    ("busy", "small", "large"),
    [
        (0.0, 4, 4), (0.4, 4, 4), (0.6, 3, 4), (1.0, 3, 3), (1.4, 3, 3), (1.6, 2, 3), (3.0, 1, 1), (9.0, 1, 1),
    ],
)  # fmt: skip
def test_what_others_use_is_left_to_them(machine: Machine, busy: float, small: int, large: int) -> None:
    threads = control(machine)
    machine.busy = busy
    assert step(machine, threads) == small
    assert step(machine, threads, MANY, 0.0) == large
    assert step(machine, threads, MANY - 1, 0.0) == small


def test_less_takes_effect_at_once_and_more_after_some_time(machine: Machine) -> None:
    threads = control(machine)
    threads.begin()
    machine.busy = 1.0
    assert step(machine, threads, seconds=INTERVAL / 2) == 4  # it is not measured more often
    assert step(machine, threads) == 3
    for busy in (0.0, 0.0, 1.0, 0.0, 0.0):
        machine.busy = busy
        assert step(machine, threads) == 3
    machine.busy = 2.0
    assert step(machine, threads) == 2
    machine.busy = 0.0
    assert [step(machine, threads) for _ in range(CALM)] == [*[2] * (CALM - 1), 4]


def test_what_happened_meanwhile_counts_at_the_beginning(machine: Machine) -> None:
    threads = control(machine)
    machine.wanting = 2  # this thread, and perhaps the one that sent the request
    threads.begin()
    assert step(machine, threads, seconds=0) == 4
    machine.wanting = 3
    threads.begin()
    assert step(machine, threads, seconds=0) == 3
    assert step(machine, threads, MANY, seconds=0) == 4  # a moment says too little for a step that takes long
    machine.wanting, machine.busy = 1, 2.0
    threads.begin()
    assert step(machine, threads, seconds=0) == 2


@pytest.mark.parametrize("over", [True, False])
def test_what_was_used_during_a_rest_is_over_after_one_calm_moment(machine: Machine, over: bool) -> None:
    threads = control(machine)
    machine.busy = 4.0
    threads.begin()
    assert step(machine, threads, seconds=0) == 1
    machine.busy = 0.0 if over else 4.0
    assert step(machine, threads, seconds=SHORTEST) == (4 if over else 1)
    machine.busy = 0.0  # from then on as ever
    assert [step(machine, threads) for _ in range(CALM)] == [4 if over else 1] * (CALM - 1) + [4]


def test_the_use_of_others_is_that_of_all_without_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linux = namedtuple("linux", "user nice system idle iowait irq softirq steal guest")
    times, clock, own = [linux(1.0, 0, 0.5, 10, 0.07, 0, 0, 0, 0)], [10.0], [5.0]
    monkeypatch.setattr(thread_control.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(thread_control.time, "process_time", lambda: own[0])
    monkeypatch.setattr(thread_control.psutil, "cpu_times", lambda: times[0])
    (tmp_path / "loadavg").write_text("0.00 0.01 0.05 3/345 999\n")
    use = CpuUse(tmp_path / "loadavg")
    assert use.runnable() == 3
    clock[0] += 0.05
    assert use.others() == 0  # too short to be measured
    clock[0], own[0] = 12.0, 6.0
    times[0] = linux(2.5, 1.0, 0.8, 12, 0.09, 0.1, 0.1, 0.5, 0)  # 3.5 s more, of which 1 s is ours
    assert use.others() == pytest.approx(1.25)
    assert use.others() == 0


@pytest.mark.parametrize("content", [None, "", "cpu 1 2\n", "0.1 0.2 0.3 a/b 9\n"])
def test_a_system_without_that_list_has_no_runnable_threads(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "loadavg").write_text(content)
    assert CpuUse(tmp_path / "loadavg").runnable() == 0


def test_a_model_beside_a_busy_program_computes_with_fewer_threads(
    demo_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: programs that use all cores."""
    seen: list[int] = []
    limit = native.LlamaContext.limit_threads

    def noted(self: native.LlamaContext, most: int) -> None:
        seen.append(most)
        limit(self, most)

    monkeypatch.setattr(native.LlamaContext, "limit_threads", noted)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        pytest.skip("one core is always kept")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        end = time.monotonic() + 60
        while 1 not in seen and time.monotonic() < end:
            demo_model.next_logits(Request(list(range(1, 40))))
        assert 1 in seen
    finally:
        for each in busy:
            each.kill()
            each.wait()
