"""The number of threads: the lowest that is about as fast as any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from loaders import loader_named
from loaders.llamacpp import thread_control
from loaders.llamacpp.engine.threads import candidate_counts, find_fastest, format_thread_count, physical_cores
from loaders.llamacpp.placement import measurements
from tests.loaders.llamacpp.test_model import keep_going


class Machine:
    """A clock, and steps with a defined duration per number of threads; each first one takes ten seconds more."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self.seconds, self.now = seconds, 0.0
        self.steps: list[int] = []

    def step(self, threads: int) -> None:
        self.now += self.seconds[threads] + (0 if threads in self.steps else 10)
        self.steps.append(threads)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 0.1}, 1),
        ({1: 0.2, 2: 0.1}, 2),  # all cores, if that is much faster
        ({1: 0.1, 2: 0.098}, 1),  # but not for two per cent
        ({4: 0.1, 6: 0.08, 7: 0.079, 8: 0.3}, 6),  # one core is busy, and memory is the limit
        ({2: 0.2, 3: 0.15, 4: 0.12}, 4),
    ],
    ids=str,
)
def test_the_fewest_that_are_about_as_quick_as_any(seconds: dict[int, float], chosen: int) -> None:
    machine = Machine(seconds)
    found, reason = find_fastest(machine.step, sorted(seconds), lambda: machine.now)
    assert found == chosen
    assert all(f"{each * 1000:.1f} ms with {count}" in reason for count, each in seconds.items())


def test_a_slow_model_is_not_timed_for_long() -> None:
    machine = Machine({1: 2.0, 2: 1.0})
    find_fastest(machine.step, [1, 2], lambda: machine.now)
    assert machine.steps == [1, 2] * 2


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
def test_what_is_tried(cores: int) -> None:
    found = candidate_counts(cores)
    assert found == sorted(set(found))
    assert found[0] >= 1
    assert found[-1] == cores


def test_a_model_says_what_was_measured(demo_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_control, "DISTURBING", float("inf"))  # whatever other tests do
    loader = loader_named("llama.cpp")
    with loader.load(demo_model_path, loader.Options.parse({"n_ctx": 256}), keep_going) as model:
        assert any("the fastest for this model" in note for note in model.notes)
    with loader.load(demo_model_path, loader.Options.parse({"n_ctx": 256, "threads": 1}), keep_going) as model:
        assert "1 thread, as requested" in model.notes


def test_what_a_busy_machine_would_show_is_not_believed(
    demo_model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A browser that starts together with the model must not decide on its threads, and on its kernel for ever."""
    monkeypatch.setattr(thread_control, "DISTURBING", -1.0)
    monkeypatch.setenv(measurements.VARIABLE, str(tmp_path / "measured.json"))
    loader = loader_named("llama.cpp")
    with loader.load(demo_model_path, loader.Options.parse({"n_ctx": 256}), keep_going) as model:
        assert any(f"{format_thread_count(physical_cores())}, fewer while" in note for note in model.notes)
        assert any("one thread: other programs were busy" in note for note in model.notes)
    assert "attention" not in (tmp_path / "measured.json").read_text("utf-8")
