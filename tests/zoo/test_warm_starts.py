"""After a restart, states from disk: replies that continue from them equal those of a cold start, for every kind of
memory; and what is not the same is not used.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loaders import loader_named
from loaders.base import Finish, Model, Request
from loaders.engine import engine
from loaders.llamacpp.engine import disk_cache
from loaders.llamacpp.engine.disk_cache import DiskCache
from loaders.params import SamplingParams
from tests.conftest import ROOT, keep_going
from tests.zoo import ggufs
from tests.zoo.compare import difference, reply
from tests.zoo.test_gguf import ARCHITECTURES, N_CTX, RECURRENT, ROUNDING

PROMPT = [40 + (7 * at + at // 3) % 900 for at in range(420)]
MESSAGE = [50 + 3 * at for at in range(17)]
FROM_DISK = "from the copy on disk"
GREEDY = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warm")


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TEXTGEN_KV_DISK", str(tmp_path / "kv"))
    return tmp_path / "kv"


def load(name: str, folder: Path, **options: Any) -> Model:
    path = folder / f"zoo-{name}.gguf"
    path = path if path.exists() else ggufs.make(name, folder)
    chosen = {"n_ctx": N_CTX, "threads": 1, "threads_batch": 1, "kv_disk": "100MB", "kv_disk_api": True, **options}
    loader = loader_named("llama.cpp")
    return loader.load(path, loader.Options.parse(chosen), keep_going)


def cases() -> list[tuple[str, dict[str, Any]]]:
    more = [{"separate_contexts": True}, {"swa_full": False}]
    return [(name, {}) for name in ARCHITECTURES] + [(name, each) for name in ("gemma3", "lfm2") for each in more]


@pytest.mark.parametrize(("name", "options"), cases(), ids=str)
def test_after_a_restart_the_reply_is_that_of_a_cold_start(folder: Path, name: str, options: dict[str, Any]) -> None:
    with load(name, folder, **options) as before:
        said = reply(before, PROMPT, 12).tokens
    turn = [*PROMPT, *said, *MESSAGE]
    with load(name, folder, kv_disk="0") as cold:
        wanted = reply(cold, turn, 12)
        again = reply(cold, PROMPT, 12)
    with load(name, folder, **options) as after:
        found = reply(after, turn, 12)
        assert found.reason == FROM_DISK
        assert found.reused == len(PROMPT) + len(said) - 1
        assert difference(found, wanted) < ROUNDING
    with load(name, folder, **options) as after:
        regenerated = reply(after, PROMPT, 12)
        assert regenerated.reused > len(PROMPT) - 40, regenerated.reason
        assert difference(regenerated, again) < ROUNDING


@pytest.mark.parametrize("name", ["llama", RECURRENT[0]])
@pytest.mark.parametrize(
    "change", [{"n_ctx": 2 * N_CTX}, {"rope_freq_base": 5000}, {"flash_attn": "on"}, {"kv_disk": "0"}], ids=str
)
def test_with_other_options_it_is_not_used(folder: Path, name: str, change: dict[str, Any]) -> None:
    with load(name, folder, flash_attn="off") as before:
        reply(before, PROMPT, 4)
    with load(name, folder, **{"flash_attn": "off", **change}) as after:
        assert reply(after, PROMPT, 4).reused == 0


def test_another_file_of_the_same_name_is_not_used(folder: Path, tmp_path: Path) -> None:
    with load("llama", folder) as before:
        reply(before, PROMPT, 4)
    with load("llama", tmp_path) as after:
        assert reply(after, PROMPT, 4).reused == 0


def test_only_what_is_to_last_is_kept(folder: Path, disk: Path) -> None:
    with load("llama", folder, kv_disk_api=False) as model:
        list(model.generate(Request(PROMPT, GREEDY, 4, label="API")))
        list(model.generate(Request(PROMPT[::-1], GREEDY, 4, label="chat", lasting=True)))
        list(model.generate(Request(PROMPT[:100], GREEDY, 4, label="short", lasting=True)))
    with load("llama", folder, kv_disk_api=False) as model:
        assert reply(model, PROMPT, 4).reused == 0
        assert reply(model, PROMPT[::-1], 4).reason == FROM_DISK
    assert len(list(disk.glob("*.kv"))) == 1


def test_it_is_written_while_nothing_runs_and_survives_a_kill(folder: Path, disk: Path) -> None:
    load("llama", folder).close()
    code = f"""
import time
from loaders.engine import engine
engine.IDLE = 0.02
from pathlib import Path
from tests.zoo.test_warm_starts import PROMPT, load
from tests.zoo.compare import reply
model = load("llama", Path({str(folder)!r}))
for number in range(1000):
    reply(model, [*PROMPT, *range(60, 60 + number)], 4)
    time.sleep(0.05)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 300
    while len(list(disk.glob("*.kv"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(disk.glob("*.kv"))
    with load("llama", folder) as model:
        found = reply(model, PROMPT, 6)
        assert found.reason == FROM_DISK
    with load("llama", folder, kv_disk="0") as cold:
        assert difference(found, reply(cold, PROMPT, 6)) < ROUNDING


def test_what_is_cancelled_or_closed_while_it_is_read_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load("llama", folder) as model:
        reply(model, PROMPT, 4)
    real = DiskCache.load

    def slow(self: DiskCache, *args: Any) -> Any:
        time.sleep(0.3)
        return real(self, *args)

    monkeypatch.setattr(DiskCache, "load", slow)
    model = load("llama", folder)
    request = Request(PROMPT, GREEDY, 400)
    stream = model.generate(request)
    request.cancel.set()
    assert list(stream) == []
    assert stream.report.finish is Finish.CANCELLED
    left = model.generate(Request(PROMPT, GREEDY, 400))
    model.close()
    with pytest.raises(Exception, match="unloaded"):
        list(left)


class SlowDisk:
    """Reads take until `go` is set; `reads` counts them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.go, self.begun, self.reads = threading.Event(), threading.Event(), 0
        real = DiskCache.load

        def slow(cache: DiskCache, *args: Any) -> Any:
            self.reads += 1
            found = real(cache, *args)
            self.begun.set()
            assert self.go.wait(60)
            return found

        patch.setattr(DiskCache, "load", slow)


@pytest.fixture
def slow_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """PROMPT's state is on it."""
    with load("llama", folder) as model:
        reply(model, PROMPT, 4)
    return SlowDisk(monkeypatch)


@pytest.mark.parametrize("options", [{}, {"separate_contexts": True}], ids=str)
def test_requests_that_need_the_same_file_share_one_read(
    folder: Path, slow_disk: SlowDisk, options: dict[str, Any]
) -> None:
    slow_disk.go.set()
    with load("llama", folder, **options) as model:
        reply(model, PROMPT, 4)
    slow_disk.go.clear()
    slow_disk.reads = 0
    with load("llama", folder, **options) as model:
        streams = [model.generate(Request(PROMPT, GREEDY, 4)) for _ in range(20)]
        slow_disk.go.set()
        found = [[token.id for token in stream] for stream in streams]
        assert slow_disk.reads == 1
        assert found == found[:1] * 20
        assert all(stream.report.reused_tokens > 400 for stream in streams), "a shared copy serves all of them"
        assert held(model) == (0, 0)


@pytest.mark.parametrize("how", ["cancelled", "yielding", "forgotten", "other adapters"])
def test_what_was_read_for_nobody_is_dropped(folder: Path, slow_disk: SlowDisk, how: str) -> None:
    with load("llama", folder) as model:
        request = Request(PROMPT, GREEDY, 4, label="chat", yields=how == "yielding")
        stream = model.generate(request)
        assert slow_disk.begun.wait(10)
        other = model.generate(Request(PROMPT[::-1], GREEDY, 40)) if how == "yielding" else None
        if how == "cancelled":
            request.cancel.set()
        elif how == "forgotten":
            model.forget("")  # nobody's
            model.forget("reply")
            model.forget("chat")
        elif how == "other adapters":
            model._disk.select([("other", 1.0)])  # type: ignore[attr-defined]
        if other:
            next(other)
        slow_disk.go.set()
        list(stream)
        list(other or ())
        assert held(model) == (0, 0)
        if how in ("forgotten", "other adapters"):
            assert stream.report.reused_tokens == 0


def held(model: Model) -> tuple[int, int]:
    """How many files that were read are held, and for how many requests."""
    warm = model._engine._warm  # type: ignore[attr-defined]
    return len(warm._reads), len(warm._users)


def test_a_task_waits_for_older_requests_whose_states_are_being_read(folder: Path, slow_disk: SlowDisk) -> None:
    """A change of adapters overtook them, and they were answered with the new ones."""
    with load("llama", folder) as model:
        older = model.generate(Request(PROMPT, GREEDY, 8))
        assert slow_disk.begun.wait(10)
        seen: list[tuple[bool, bool]] = []
        newer: list[Any] = []

        def look() -> None:
            seen.append((older.ended, bool(newer[0].started)))  # type: ignore[attr-defined]

        task = threading.Thread(target=model._between_requests, args=(look, "a task"))  # type: ignore[attr-defined]
        task.start()
        while not any(entry.label == "a task" for entry in model.queue()):
            time.sleep(0.01)
        newer.append(model.generate(Request(PROMPT[::-1], GREEDY, 4)))
        time.sleep(0.2)  # what overtakes does it now
        slow_disk.go.set()
        assert len(list(older)) == 8
        assert older.report.reuse_reason == FROM_DISK
        assert len(list(newer[0])) == 4
        task.join(60)
        assert seen == [(True, False)]


def test_what_could_not_be_read_again_is_not_written(
    folder: Path, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with load("llama", folder, cache_capacity="0") as model:
        reply(model, PROMPT, 4)
        assert any("kv_disk has no effect with cache_capacity 0" in note for note in model.notes)
    assert not list(disk.glob("*"))
    with load("llama", folder, cache_capacity="10kB") as model:
        reply(model, PROMPT, 4)
        assert not any("kv_disk" in note for note in model.notes)
    assert not list(disk.glob("*.kv"))
    assert caplog.text.count("Raise it to keep such chats") == 1


def test_it_says_that_it_writes_while_it_is_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process would be killed."""
    seen: list[bool] = []
    real = disk_cache._write_state

    def write(*args: Any) -> None:
        seen.append(model.saving)
        real(*args)

    monkeypatch.setattr(disk_cache, "_write_state", write)
    model = load("llama", folder)
    reply(model, PROMPT, 4)
    assert not model.saving
    model.close()
    assert seen == [True]
    assert not model.saving


def test_with_context_shift_nothing_is_kept_and_that_is_said(folder: Path, disk: Path) -> None:
    with load("llama", folder, context_shift=True) as model:
        reply(model, PROMPT, 4)
        assert any("kv_disk has no effect" in note for note in model.notes)
    assert not list(disk.glob("*"))


def test_idle_work_does_not_delay_a_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "IDLE", 0.001)
    with load("llama", folder) as model:
        for number in range(20):
            assert len(reply(model, [*PROMPT, number + 40], 2).tokens) == 2
