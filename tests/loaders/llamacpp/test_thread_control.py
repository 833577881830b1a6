"""How many threads compute follows what other programs use of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from unittest.mock import Mock

import pytest

from loaders.llamacpp import thread_control
from loaders.llamacpp.thread_control import (
    CALM,
    INTERVAL,
    MANY,
    SHORTEST,
    UNLIMITED,
    CoresBusy,
    CpuUse,
    ThreadControl,
    measure_calmly,
)

CORES = 4


class Machine(CpuUse):
    """What other programs use, in cores; a context's number of threads."""

    def __init__(self) -> None:
        self.time, self.busy = 0.0, 0.0
        self.threads = CORES

    def others(self) -> float | None:
        return self.busy

    def limit_threads(self, most: int) -> None:
        self.threads = CORES if most == UNLIMITED else most


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


@pytest.mark.parametrize("faster", [True, False])
def test_small_steps_use_more_where_they_are_measured_to_be_faster(machine: Machine, faster: bool) -> None:
    threads, used = control(machine), list[int]()
    machine.busy = 0.8
    for _ in range(200):
        used.append(step(machine, threads, seconds=0.05))
        threads.note(1, 0.05 if (used[-1] == 4) == faster else 0.1)
    assert (used[-100:].count(4) > 80) == faster
    assert (used[-100:].count(3) > 80) != faster
    assert step(machine, threads, MANY) == 4
    machine.busy = 0.0
    assert [step(machine, threads) for _ in range(CALM)][-1] == 4
    machine.busy = 0.8
    assert step(machine, threads) == 3, "another time it is measured again"


def test_what_happened_meanwhile_counts_at_the_beginning(machine: Machine) -> None:
    threads = control(machine)
    machine.busy = 2.0
    threads.begin()
    assert step(machine, threads, seconds=0) == 2


def test_what_was_measured_just_now_still_counts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = control(machine)
    machine.busy = 2.0
    assert step(machine, threads) == 2
    monkeypatch.setattr(machine, "others", lambda: None)
    threads.begin()
    assert step(machine, threads, seconds=0) == 2


def test_a_user_may_want_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    limits: list[int] = []
    monkeypatch.setattr(machine, "limit_threads", limits.append)
    threads = control(machine)
    for busy in (2.0, 0.0, 0.0, 0.0):
        machine.busy = busy
        step(machine, threads)
    assert limits == [2, UNLIMITED]


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


def test_the_use_of_others_is_that_of_all_without_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = namedtuple("linux", "user nice system idle iowait irq softirq steal guest")
    gone = linux(9.0, 9.0, 9.0, 0, 0, 0, 0, 0, 0)  # a processor that this program may not use
    times, clock, own = [linux(1.0, 0, 0.5, 10, 0.07, 0, 0, 0, 0)], [10.0], [5.0]
    monkeypatch.setattr(thread_control.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(thread_control.time, "process_time", lambda: own[0])
    monkeypatch.setattr(
        thread_control.psutil, "cpu_times", lambda percpu=False: [times[0], gone] if percpu else times[0]
    )
    use, some = CpuUse(), CpuUse({0, 7})  # the system has forgotten 7
    clock[0] += 0.05
    assert use.others() is None  # too short to be measured
    clock[0], own[0] = 12.0, 6.0
    times[0] = linux(2.5, 1.0, 0.8, 12, 0.09, 0.1, 0.1, 0.5, 0)  # 3.5 s more, of which 1 s is ours
    assert use.others() == some.others() == pytest.approx(1.25)
    assert use.others() is None
    hidden = PermissionError("/proc/stat")
    monkeypatch.setattr(thread_control.psutil, "cpu_times", Mock(side_effect=hidden))
    use = CpuUse()
    clock[0] += 1
    assert use.others() == 0


def test_beside_programs_that_use_all_cores_one_thread_computes() -> None:
    """The real thing, with real programs and the system's own figures."""
    seen: list[int] = []
    context = Mock(limit_threads=seen.append)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        threads, end = ThreadControl([context]), time.monotonic() + 60
        threads.begin()
        while 1 not in seen and time.monotonic() < end:
            threads.adapt(1)
            time.sleep(0.05)
        assert 1 in seen
    finally:
        for each in busy:
            each.kill()
            each.wait()


@pytest.mark.parametrize(("before", "meanwhile"), [(0.0, 0.0), (0.4, 0.4), (0.6, 0.0), (0.0, 1.0), (2.0, 2.0)])
def test_nothing_is_measured_while_others_use_the_cores(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, before: float, meanwhile: float
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    machine.busy = before
    measured = Mock(side_effect=lambda: setattr(machine, "busy", meanwhile))
    if max(before, meanwhile) > thread_control.DISTURBING:
        with pytest.raises(CoresBusy):
            measure_calmly(measured, machine)
        assert measured.called == (before <= thread_control.DISTURBING)
    else:
        measure_calmly(measured, machine)
