"""How long threads spin follows what other programs use of the cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from loaders.llamacpp import openmp, spinning
from loaders.llamacpp.spinning import CALM, INTERVAL, SHORTEST, CpuUse, SpinControl


class Machine:
    """What other programs use, in cores, and how many threads want to run."""

    def __init__(self) -> None:
        self.time, self.busy, self.wanting = 0.0, 0.0, 1

    def others(self) -> float:
        return self.busy

    def runnable(self) -> int:
        return self.wanting


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    alive: list[int] = []

    class Pool:
        def __init__(self, threads: int) -> None:
            alive.append(threads)

        def close(self) -> None:
            alive.pop()

    monkeypatch.setattr(openmp, "SleepingPool", Pool)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    return alive


def control(machine: Any, threads: int = 4) -> SpinControl:
    return SpinControl(threads, machine, lambda: machine.time)


def step(machine: Machine, spins: SpinControl, seconds: float = INTERVAL) -> bool:
    machine.time += seconds
    spins.adapt()
    return spins.short


def test_a_busy_program_shortens_and_calm_lengthens(pools: list[int]) -> None:
    machine = Machine()
    spins = control(machine)
    spins.begin()
    assert not step(machine, spins)
    machine.busy = 1.0
    assert not step(machine, spins, INTERVAL / 2)  # it is not measured more often
    assert step(machine, spins)
    assert pools == [2]  # with the engine's 4, one more than there are cores
    machine.busy = 0.1
    assert [step(machine, spins) for _ in range(CALM)] == [*[True] * (CALM - 1), False]
    assert pools == []


def test_one_calm_moment_is_not_calm(pools: list[int]) -> None:
    machine = Machine()
    spins = control(machine)
    for busy in (1.0, 0.0, 0.0, 1.0, 0.0, 0.0):
        machine.busy = busy
        assert step(machine, spins)
    assert pools == [2]


@pytest.mark.parametrize(
    ("threads", "busy", "short"), [(4, 0.3, False), (4, 0.4, True), (2, 2.0, False), (2, 2.5, True)]
)
def test_free_cores_may_be_used(pools: list[int], threads: int, busy: float, short: bool) -> None:
    machine = Machine()
    machine.busy = busy
    spins = control(machine, threads)
    assert step(machine, spins) is short
    spins.rest()
    assert not pools


def test_what_happened_meanwhile_counts_at_the_beginning(pools: list[int]) -> None:
    machine = Machine()
    spins = control(machine)
    machine.wanting = 2  # this thread, and perhaps the one that sent the request
    spins.begin()
    assert not spins.short
    machine.wanting = 3
    spins.begin()
    assert spins.short
    spins.rest()
    machine.wanting, machine.busy = 1, 1.0
    spins.begin()
    assert spins.short
    spins.rest()
    assert not pools


@pytest.mark.parametrize("over", [True, False])
def test_what_was_used_during_a_rest_is_over_after_one_calm_moment(pools: list[int], over: bool) -> None:
    machine = Machine()
    spins = control(machine)
    machine.busy = 4.0
    spins.begin()
    assert spins.short
    machine.busy = 0.0 if over else 1.0
    assert step(machine, spins, SHORTEST) is not over
    if not over:  # from then on as ever
        machine.busy = 0.0
        assert [step(machine, spins) for _ in range(CALM)] == [*[True] * (CALM - 1), False]
    assert not pools


def test_the_use_of_others_is_that_of_all_without_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat, load = tmp_path / "stat", tmp_path / "loadavg"
    clock, own = [10.0], [5.0]
    monkeypatch.setattr(spinning.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(spinning.time, "process_time", lambda: own[0])
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    stat.write_text("cpu  100 0 50 1000 7 0 0 0 0 0\ncpu0 1 2 3\n")
    load.write_text("0.00 0.01 0.05 3/345 999\n")
    use = CpuUse(stat, load)
    assert use.runnable() == 3
    clock[0] += 0.05
    assert use.others() == 0  # too short to be measured
    clock[0], own[0] = 12.0, 6.0
    stat.write_text("cpu  250 100 80 1200 9 10 10 50 0 0\n")  # 3.5 s more, of which 1 s is ours
    assert use.others() == pytest.approx(1.25)
    assert use.others() == 0


@pytest.mark.parametrize("content", ["", "cpu 1 2\n", "cpu a b c d e f g h i j\n"])
def test_a_system_without_these_figures_keeps_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "stat").write_text(content)
    monkeypatch.setattr(openmp, "can_shorten", lambda: True)
    monkeypatch.setattr(spinning, "CpuUse", lambda: CpuUse(tmp_path / "stat", tmp_path / "loadavg"))
    spins = SpinControl(2)
    spins.begin()
    spins.adapt()
    assert not spins.short


def test_real_figures() -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("Linux only")
    use = CpuUse()
    assert use.runnable() >= 1
    spinning.time.sleep(0.15)
    assert 0 <= use.others() <= (os.cpu_count() or 1) + 1
