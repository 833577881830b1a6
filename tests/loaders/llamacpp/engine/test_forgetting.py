"""What was computed for a label that is forgotten is nowhere any more: not in the cache, in memory, or on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loaders import LOADERS, loader_named
from loaders.base import Model, Report, Request
from loaders.labels import is_of
from loaders.llamacpp.engine import disk_cache
from loaders.llamacpp.engine.checkpoints import Checkpoints
from loaders.llamacpp.engine.disk_cache import DiskCache, forget_states
from loaders.llamacpp.engine.draft_model import DraftModel
from loaders.llamacpp.engine.prompt_cache import PromptCache
from loaders.llamacpp.engine.saved_state import SavedState
from loaders.llamacpp.engine.sequence_pool import SequencePool
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.params import SamplingParams
from loaders.process import load_model
from tests.conftest import keep_going
from tests.loaders.llamacpp.engine.test_checkpoints import pool
from tests.loaders.llamacpp.engine.test_sequence_pool import FakeContext
from tests.zoo import ggufs

MOST = 2**30
GREEDY = SamplingParams(do_sample=False, temperature=0, ban_eos_token=True)
A, B = "instruct/1", "instruct/11"


def words(seed: int, count: int = 400) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).integers(40, 900, count)]


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "kv"))
    return tmp_path / "kv"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_a_label_and_its_purposes_and_no_other() -> None:
    assert is_of(A, A)
    assert is_of(f"{A}: reading ahead", A)
    assert not is_of(B, A)
    assert not is_of(A, B)
    assert not is_of("", "")


# --- on disk ---


def state(seed: int, label: str) -> SavedState:
    return SavedState(tuple(words(seed)), np.arange(200, dtype=np.uint8), 0, label)


def test_files_of_all_models_go_and_only_those_of_the_label(disk: Path) -> None:
    for identity in ("one", "two"):
        cache = DiskCache(MOST, identity)
        cache.put(state(1, A))
        cache.put(state(2, B))
        cache.put(state(3, f"{A}: you"))
        cache.close()
    (disk / "left.tmp").write_bytes(next(path for path in files(disk) if A.encode() in path.read_bytes()).read_bytes())
    (disk / "damaged.kv").write_bytes(b"KVSTATE1\xff\xff")
    for loader in LOADERS.values():
        loader.forget(A)
    left = files(disk)
    assert len(left) == 3
    assert disk / "damaged.kv" in left
    assert DiskCache(MOST, "two").labels == {B}
    assert forget_states(A) == 0
    assert forget_states(B) == 2


def test_what_waits_to_be_written_is_not(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is in the queue, nor what is being written right now."""
    begun, go_on, real = threading.Event(), threading.Event(), disk_cache._write_state

    def slow(*given: Any) -> None:
        begun.set()
        go_on.wait(60)
        real(*given)

    monkeypatch.setattr(disk_cache, "_write_state", slow)
    cache = DiskCache(MOST, "one")
    states = [state(1, A), state(2, A), state(3, B)]
    for each in states:
        cache.put(each)
    begun.wait(60)
    cache.forget(A)
    assert [cache.knows(each.ids) for each in states] == [False, False, True]
    go_on.set()
    cache.close()
    assert cache.labels == {B}
    assert len(files(disk)) == 1
    cache.put(states[0])  # for a later chat of the same words
    cache.close()
    assert cache.labels == {A, B}


def test_what_was_written_is_not_read_from_then_on(disk: Path) -> None:
    cache = DiskCache(MOST, "one")
    made = state(1, A)
    cache.put(made)
    cache.close()
    cache.forget(A)
    assert not cache.longest(made.ids, MOST)
    assert cache.load(made.ids, MOST) is None
    assert not cache.knows(made.ids)
    cache.close()
    assert not files(disk)


# --- sequences ---


def ask(context: FakeContext, sequences: SequencePool, ids: list[int], label: str, *, careful: bool = False) -> int:
    sequence, _ = sequences.take(ids, careful=careful, label=label)
    reused = len(sequence.ids)
    sequence.ids[:] = ids
    context.decode(sequence.id, len(ids))
    if not careful:
        sequence.lasting = True
    sequences.release(sequence, careful=careful)
    return reused


def sequences_of(context: FakeContext, count: int = 4) -> SequencePool:
    return SequencePool(context, count, shared=True, states=PromptCache(10_000))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["in the cache", "in memory"])
def test_a_state_is_dropped_wherever_it_is(where: str) -> None:
    context = FakeContext(10_000)
    sequences = sequences_of(context)
    ask(context, sequences, words(1), A)
    ask(context, sequences, words(2), B)
    ask(context, sequences, words(3), A)
    while where == "in memory" and sequences.drop_idle():
        pass
    assert sequences.labels() == {A, B}
    sequences.forget(A)
    assert sequences.labels() == {B}
    assert [sequences.known(tuple(words(seed))) for seed in (1, 2, 3)] == [0, 400, 0]
    assert sum(context.held.values()) == (400 if where == "in the cache" and sequences.held else 0)
    assert ask(context, sequences, [*words(2), 5], B) == 400


def test_what_a_running_request_uses_goes_with_its_end() -> None:
    context = FakeContext(10_000)
    sequences = sequences_of(context)
    sequence, _ = sequences.take(words(1), label=f"{A}: version ahead")
    sequences.forget(A)
    sequence.ids[:] = words(1)
    context.decode(sequence.id, 400)
    assert sequences.known(tuple(words(1))) == 400
    sequences.release(sequence)
    assert sequences.known(tuple(words(1))) == 0
    assert ask(context, sequences, words(1), A) == 0
    assert ask(context, sequences, [*words(1), 5], A) == 400, "a later request is not forgotten"


def test_checkpoints_of_a_label_go() -> None:
    context, sequences = pool("recurrent")
    for seed, label in ((1, A), (2, B)):
        sequence, _ = sequences.take(words(seed), label=label)
        sequence.ids[:] = words(seed)[:300]
        context.decode(sequence.id, sequence.ids)
        sequences.checkpoint(sequence)
        sequences.release(sequence)
    checkpoints: Checkpoints = sequences._states.checkpoints
    assert len(checkpoints) == 2
    sequences.forget(A)
    assert [each.label for each in checkpoints._all] == [B]
    assert not list(checkpoints.before(tuple(words(1))))


def test_what_is_read_ahead_leaves_the_chat_it_continues_as_it_was() -> None:
    """It is written to disk without the words that nobody has sent; to forget only the reader keeps the chat."""
    context = FakeContext(10_000)
    sequences = sequences_of(context)
    ask(context, sequences, words(1), A)
    assert ask(context, sequences, [*words(1), *words(5, 60)], f"{B}: reading ahead", careful=True) == 400
    assert sequences.labels() == {A}
    found = sequences.unkept(lambda _: False, 256)
    assert found
    assert (found[0].ids, found[0].label, found[0].lasting) == (tuple(words(1)), A, True)
    assert sequences.unkept(lambda ids: ids == found[0].ids, 256) is None
    assert sequences.known((*words(1), *words(5, 60))) == 460, "what was read ahead is still there"
    while sequences.drop_idle():
        pass
    assert sequences.unkept(lambda _: False, 256) is None, "a copy that contains unsent words is not written"
    assert ask(context, sequences, [*words(1), *words(5, 60), 5], A) == 460


def test_to_forget_who_read_ahead_keeps_the_chat() -> None:
    context = FakeContext(10_000)
    sequences = sequences_of(context)
    ask(context, sequences, words(1), A)
    ask(context, sequences, [*words(1), *words(5, 60)], f"{B}: reading ahead", careful=True)
    sequences.forget(B)
    assert sequences.known((*words(1), *words(5, 60))) == 400
    sequences.forget(A)
    assert sequences.known(tuple(words(1))) == 0


def test_the_draft_model_forgets_too() -> None:
    context = FakeContext(10_000)
    model = DraftModel.__new__(DraftModel)  # without a batch: nothing is decoded
    model.context, model._failed = context, False  # type: ignore[assignment]
    model._slots = [SequenceSlot(number) for number in range(3)]
    taken = []
    for seed, label in ((1, A), (2, B), (3, A)):
        slot = model.take(words(seed), label)
        assert slot
        slot.ids[:] = words(seed)
        context.decode(slot.id, 400)
        taken.append(slot)
    for slot in taken[:2]:
        model.release(slot)
    model.forget(A)
    assert [len(slot.ids) for slot in taken] == [0, 400, 400]
    model.release(taken[2])
    assert [len(slot.ids) for slot in taken] == [0, 400, 0]


# --- a model ---


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ggufs.make("llama", tmp_path_factory.mktemp("model"))


def load(path: Path, *, apart: bool = False) -> Model:
    loader = loader_named("llama.cpp")
    options = loader.Options.parse({"n_ctx": 2048, "threads": 1, "threads_batch": 1, "parallel": 2, "kv_disk": "100MB"})
    return load_model(loader, path, options, keep_going) if apart else loader.load(path, options, keep_going)


@pytest.fixture(params=["here", "in a process of its own"])
def model(request: pytest.FixtureRequest, path: Path) -> Iterator[Model]:
    with load(path, apart=request.param != "here") as model:
        yield model


def say(model: Model, ids: list[int], label: str, **more: Any) -> Report:
    stream = model.generate(Request(ids, GREEDY, 4, label=label, **more))
    for _ in stream:
        pass
    return stream.report


def test_a_model_forgets_one_chat_and_keeps_the_other(model: Model, disk: Path) -> None:
    say(model, words(1), A, lasting=True)
    say(model, words(2), B, lasting=True)
    assert model.warm_labels() == {A, B}
    assert say(model, words(1), A, lasting=True).reused_tokens == 399
    model.forget(A)
    assert model.warm_labels() == {B}
    assert say(model, words(2), B, lasting=True).reused_tokens == 399
    assert say(model, words(1), "another").reused_tokens == 0
    model.close()
    model.forget(B)  # which does nothing any more, and does not raise
    (left,) = disk.glob("*.kv")
    assert B.encode() in left.read_bytes()
    loader_named("llama.cpp").forget(B)
    assert not files(disk)


def test_a_reply_does_not_stop_for_it(model: Model) -> None:
    stream = model.generate(Request(words(1), GREEDY, 300, label=A))
    next(iter(stream))
    model.forget(A)
    assert len(list(stream)) == 299
    assert say(model, words(1), A).reused_tokens == 0


def test_what_was_read_ahead_is_forgotten(model: Model) -> None:
    say(model, words(1), f"{A}: reading ahead", yields=True)
    model.forget(A)
    report = say(model, [*words(1), 77], A)
    assert (report.reused_tokens, report.ahead_tokens) == (0, 0)


def test_a_chat_that_was_read_ahead_opens_warm(path: Path) -> None:
    """Formerly, what was typed or a title took the place of the chat's state, and none was written."""
    with load(path) as model:
        said = [token.id for token in model.generate(Request(words(1), GREEDY, 4, label=A, lasting=True))]
        report = say(model, [*words(1), *said, *words(5, 60)], f"{A}: reading ahead", yields=True)
        assert report.reused_tokens == 403
    with load(path) as model:
        assert model.warm_labels() == {A}
        report = say(model, [*words(1), *said, 5], A)
        assert (report.reused_tokens, report.reuse_reason) == (403, "from the copy on disk")
