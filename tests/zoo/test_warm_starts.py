"""After a restart, states from disk: replies that continue from them equal those of a cold start, for every kind of
memory; and what is not the same is not used.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
