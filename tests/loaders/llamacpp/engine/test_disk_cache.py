"""States on disk: what is read is what was written, for the same model only, and no damaged file does harm."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from loaders.llamacpp.engine.checkpoints import Checkpoint
from loaders.llamacpp.engine.disk_cache import DiskCache
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.state_identity import state_identity
from tests.conftest import ROOT

MOST = 2**30
Open = Callable[..., DiskCache]


@pytest.fixture
def open_(tmp_path: Path) -> Iterator[Open]:
    opened: list[DiskCache] = []

    def make(identity: str = "one", capacity: int = MOST) -> DiskCache:
        opened.append(DiskCache(capacity, identity, tmp_path / "kv"))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def state(ids: range, label: str = "chat", size: int = 1000) -> SavedState:
    data = np.frombuffer(random.Random(str(ids)).randbytes(size), np.uint8)
    return SavedState(tuple(ids), data, 3, label)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "kv").glob("*"))


def test_what_is_read_is_what_was_written(open_: Open) -> None:
    written = state(range(400))
    checkpoint = Checkpoint(tuple(range(90)), np.arange(7, dtype=np.uint8))
    first = open_()
    assert not first.knows(written.ids)
    first.put(written, [checkpoint])
    assert first.knows(written.ids)
    first.close()
    again = open_()
    assert again.knows(written.ids)
    assert again.labels == {"chat"}
    wanted = (*range(350), 1, 2, 3)
    assert again.longest(wanted, MOST) == 350
    found = again.load(wanted, MOST)
    assert found
    read, checkpoints = found
    assert (read.ids, read.first, read.label, read.from_disk) == (written.ids, 3, "chat", True)
    assert np.array_equal(read.state, written.state)
    assert [(each.ids, each.state.tolist()) for each in checkpoints] == [(checkpoint.ids, list(range(7)))]
    assert again.load((5, 6), MOST) is None
    assert again.longest(wanted, 100) == 0, "it would not fit into memory"


def test_another_model_or_another_adapter_sees_nothing(open_: Open) -> None:
    one = open_()
    one.put(state(range(300)))
    one.close()
    assert open_("two").longest(tuple(range(300)), MOST) == 0
    same = open_()
    assert same.longest(tuple(range(300)), MOST) == 300
    same.select([("adapter", 1.0)])
    assert same.longest(tuple(range(300)), MOST) == 0
    assert not same.knows(tuple(range(300)))
    same.select([])
    assert same.longest(tuple(range(300)), MOST) == 300


@pytest.mark.parametrize("change", ["name", "size", "time", "content", "context", "library"])
def test_whatever_differs_is_another_identity(tmp_path: Path, change: str) -> None:
    path, context, library = tmp_path / "model.gguf", {"n_ctx": 512}, "a"
    path.write_bytes(bytes(10**6))
    os.utime(path, ns=(1, 1))
    before = state_identity([path], context, library)
    assert before == state_identity([path], dict(context), library)
    if change == "name":
        path = path.rename(tmp_path / "other.gguf")
    elif change == "size":
        path.write_bytes(bytes(10**6 + 1))
        os.utime(path, ns=(1, 1))
    elif change == "time":
        os.utime(path, ns=(1, 2))
    elif change == "content":
        path.write_bytes(bytes(10**6 - 1) + b"x")
        os.utime(path, ns=(1, 1))
    elif change == "context":
        context["n_ctx"] = 1024
    else:
        library = "b"
    assert state_identity([path], context, library) != before


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_not_used_and_is_deleted(open_: Open, tmp_path: Path, seed: int) -> None:
    one, dice = open_(), random.Random(seed)
    one.put(state(range(300)))
    one.close()
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    if seed % 2:
        del data[dice.randrange(len(data)) :]
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    assert open_().load(tuple(range(300)), MOST) is None


@pytest.mark.parametrize("header", [b"[" * 60_000, b'{"tokens": 999999999999999}', b'{"tokens": -1}', b"{}", b"5"])
def test_an_odd_header_is_no_state(open_: Open, tmp_path: Path, header: bytes) -> None:
    one = open_()
    one.put(state(range(300)))
    one.close()
    (path,) = files(tmp_path)
    path.write_bytes(b"KVSTATE1" + struct.pack("<I", len(header)) + header)
    assert open_().load(tuple(range(300)), MOST) is None


def test_what_a_killed_program_leaves_is_no_state(open_: Open, tmp_path: Path) -> None:
    folder = tmp_path / "kv"
    folder.mkdir()
    old, new = folder / "a.tmp", folder / "b.tmp"
    for each in (old, new):
        each.write_bytes(b"KVSTATE1")
    os.utime(old, (time.time() - 10**5,) * 2)
    one = open_()
    assert one.longest((1, 2), MOST) == 0
    one.put(state(range(300)))
    one.close()
    assert [path for path in files(tmp_path) if path.suffix == ".tmp"] == [new], "another program may be writing it"


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is in the middle of writing a state into the folder."""
    code = f"""
import time
from pathlib import Path
from loaders.llamacpp.engine import disk_cache
from tests.loaders.llamacpp.engine.test_disk_cache import MOST, state
def stop(file, *_):
    file.write(bytes(3000))
    file.flush()
    print("writing", flush=True)
    time.sleep(600)
disk_cache._write_state = stop
cache = disk_cache.DiskCache(MOST, "another", Path({str(tmp_path / "kv")!r}))
cache.put(state(range(300)))
cache.close()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == b"writing"
        yield process
        process.kill()


def test_unfinished_files_go_with_their_process(open_: Open, tmp_path: Path, writing: subprocess.Popen[bytes]) -> None:
    folder = tmp_path / "kv"
    (unfinished,) = files(tmp_path)
    same_id = folder / f"{os.getpid()}-1-ab.tmp"
    same_id.write_bytes(b"KVSTATE1")
    open_()
    assert files(tmp_path) == [unfinished], "it is still written; a process with the id of another did not begin it"
    writing.kill()
    writing.wait()
    open_()
    assert files(tmp_path) == []


def test_unfinished_files_count(open_: Open, tmp_path: Path, writing: subprocess.Popen[bytes]) -> None:
    one = open_(capacity=6000)
    one.put(state(range(300), "chat 1", 600))
    one.put(state(range(1000, 1300), "chat 2", 600))
    one.close()
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 6000
    assert len(files(tmp_path)) == 2


def test_the_least_recently_used_go_first(open_: Open, tmp_path: Path) -> None:
    one = open_(capacity=4000)
    for number in range(5):
        one.put(state(range(number * 1000, number * 1000 + 300), f"chat {number}", 600))
        if number == 1:
            one.close()  # it is written
            assert one.load(tuple(range(300)), MOST)
            for path in files(tmp_path):
                about = path.stat()
                os.utime(path, (about.st_atime, about.st_mtime - (50 if path == _file_of(one, 1) else 10)))
            one = open_(capacity=4000)
    one.close()
    left = open_(capacity=4000)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 4000
    assert left.longest(tuple(range(1000, 1300)), MOST) == 0
    assert left.longest(tuple(range(4000, 4300)), MOST) == 300


@pytest.mark.parametrize("how", ["for lack of room", "forgotten"])
def test_what_another_server_has_deleted_is_written_again(open_: Open, how: str) -> None:
    size = 10_000
    kept, other = open_(capacity=2 * size + 9000), open_(capacity=2 * size + 9000)
    lost = state(range(300), "lost", size)
    kept.put(lost)
    kept.close()
    if how == "forgotten":
        other.select(())  # it sees the file
        other.forget("lost")
    for number in (1, 2):
        other.put(state(range(1000 * number, 1000 * number + 300), f"other {number}", size))
    other.close()
    kept.put(state(range(5000, 5300), "later", size))
    kept.close()
    assert not kept.knows(lost.ids)
    assert kept.labels == {"later"}
    kept.put(lost)
    kept.close()
    assert open_().find(lost.ids, MOST)[1] == 300


def _file_of(cache: DiskCache, number: int) -> Path:
    return next(entry.path for entry in cache._entries if entry.label == f"chat {number}")


def test_the_next_turn_of_a_chat_replaces_the_last_one(open_: Open, tmp_path: Path) -> None:
    one = open_()
    one.put(state(range(300)))
    one.put(state(range(400)))
    one.put(state(range(350), "another chat"))
    one.put(state(range(1, 300)))
    one.close()
    assert len(files(tmp_path)) == 3
    assert open_().longest(tuple(range(500)), MOST) == 400


@pytest.mark.parametrize(
    ("labels", "left"),
    [
        (["chat 1", "chat 1"], 1),
        (["chat 1", "chat 1: you"], 1),
        (["API: req-1", "API: req-2"], 1),
        (["chat 1", "chat 2"], 2),
        (["chat 1", "API: req-1"], 2),
        (["API: req-1", "chat 1"], 2),
        (["chat 1", "chat 10"], 2),
    ],
)
def test_a_longer_state_replaces_beginnings_of_the_same_owner(
    open_: Open, tmp_path: Path, labels: list[str], left: int
) -> None:
    one = open_()
    for turn, label in enumerate(labels):
        one.put(state(range(300 + 100 * turn), label))
    one.close()
    assert len(files(tmp_path)) == left
    assert open_().longest(tuple(range(500)), MOST) == 400


def test_a_folder_that_cannot_be_written_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "kv").write_text("a file")
    cache = DiskCache(MOST, "one", tmp_path / "kv")
    cache.put(state(range(300)))
    cache.close()
    assert "could not be written" in caplog.text
