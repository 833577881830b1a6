"""The process of a model may end at any moment: whoever waits is told why, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from errors import EngineDied, LoadCancelled, ModelClosed, ModelFileError, UserError
from loaders.base import Lora, Model, Request
from loaders.process import load_model
from loaders.process.proxy import ProcessModel
from loaders.process.wire import RemoteError
from tests.conftest import ROOT, keep_going
from tests.loaders.process.conftest import Hosts
from tests.loaders.process.scripted import WAITING, Scripted, ScriptedOptions

PATH = Path("model")
posix = pytest.mark.skipif(os.name == "nt", reason="signals")


def load(act: str = "", progress: Any = keep_going) -> ProcessModel:
    model = load_model(Scripted, PATH, ScriptedOptions(act=act), progress)
    assert isinstance(model, ProcessModel)
    return model


@pytest.fixture
def model() -> Iterator[ProcessModel]:
    with load() as model:
        yield model


def kill(model: ProcessModel) -> None:
    os.kill(model.pid, signal.SIGKILL)


WAITS: dict[str, Callable[[Model], object]] = {
    "prompt": lambda model: next(model.generate(Request([0]))),
    "reply": lambda model: list(model.generate(Request([1], max_tokens=10_000))),
    "logits": lambda model: model.next_logits(Request([1])),
    "score": lambda model: model.score([1, 2, 3]),
    "embedding": lambda model: model.embed([[1]]),
    "adapter": lambda model: model.set_loras([Lora(Path(WAITING))]),
}


@posix
@pytest.mark.parametrize("stage", WAITS)
def test_who_waits_is_told_why(model: ProcessModel, stage: str) -> None:
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            WAITS[stage](model)
        except UserError as error:
            caught.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    kill(model)
    thread.join(30)
    assert isinstance(caught[0], EngineDied)
    assert "SIGKILL" in str(caught[0])
    for later in WAITS.values():
        with pytest.raises(EngineDied):
            later(model)
    assert model.queue() == ()
    assert model.warning() == ""


@posix
def test_the_reply_so_far_is_kept(model: ProcessModel) -> None:
    stream = model.generate(Request([1], max_tokens=10_000))
    first = [next(stream) for _ in range(3)]
    kill(model)
    rest = []
    with pytest.raises(EngineDied):
        rest.extend(iter(stream))
    assert b"".join(each.data for each in [*first, *rest]).startswith(b"aba")
    with pytest.raises(EngineDied):
        next(stream)


@posix
def test_the_loss_is_told_once_and_a_close_is_none(model: ProcessModel) -> None:
    lost: list[str] = []
    told = threading.Event()
    model.on_lost(lambda why: (lost.append(why), told.set()))  # type: ignore[func-returns-value]
    kill(model)
    assert told.wait(30)
    model.close()
    assert len(lost) == 1
    late: list[str] = []
    other = load()
    other.on_lost(late.append)
    other.close()
    assert late == []


@posix
@pytest.mark.parametrize(("act", "words"), [("assert", r"GGML_ASSERT\(n > 0\) failed"), ("segv", "memory access")])
def test_a_load_that_dies_refuses_the_file_with_the_reason(act: str, words: str, hosts: Hosts) -> None:
    with pytest.raises(ModelFileError, match=f"^model cannot be loaded: .*{words}"):
        load(act)
    assert hosts() == []


def test_a_load_that_fails_says_why_and_ends_its_process(hosts: Hosts) -> None:
    with pytest.raises(ModelFileError, match="it is a test"):
        load("refuse")
    with pytest.raises(RemoteError, match="of another library") as caught:
        load("unknown")
    assert caught.value.kind == "_UnknownError"
    assert hosts() == []


def test_a_load_is_cancelled_in_the_middle_of_whatever_it_does(hosts: Hosts) -> None:
    steps: list[str] = []

    def progress(_fraction: float, doing: str) -> bool:
        steps.append(doing)
        return steps.count("half of it") < 3  # the loader itself says it once

    with pytest.raises(LoadCancelled):
        load("wait", progress)
    assert hosts() == []


@pytest.mark.parametrize(("name", "whole"), [("states", True), ("for ever", False)])
def test_a_close_waits_while_the_model_writes_but_not_for_ever(
    name: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was killed while it wrote large states, which were lost."""
    monkeypatch.setattr("loaders.process.model_process._PATIENCE", 1.0)
    monkeypatch.setattr("loaders.process.model_process._LONGEST", 60.0 if whole else 2.0)
    model = load(f"writes {tmp_path / name}")
    pid = model.pid
    model.close()
    assert (tmp_path / name).exists() == whole
    assert not psutil.pid_exists(pid)
    assert not model.saving


@pytest.mark.parametrize("act", ["", "never closes"])
def test_a_close_ends_all_requests_and_the_process(act: str) -> None:
    model = load(act)
    pid = model.pid
    stream = model.generate(Request([1], max_tokens=10_000))
    next(stream)
    model.close()
    with pytest.raises(ModelClosed):
        for _ in stream:
            pass
    with pytest.raises(ModelClosed):
        model.generate(Request([1]))
    with pytest.raises(ModelClosed):
        model.tokenizer.encode("a")
    assert not psutil.pid_exists(pid)
    model.close()


def test_an_error_that_only_the_process_knows_arrives_with_its_words(model: ProcessModel) -> None:
    with pytest.raises(RemoteError, match="of another library"):
        model.grammar_start("foreign")


_OWNER = """
import threading
from tests.loaders.process.test_death import load
print(load().pid, flush=True)
threading.Event().wait()
"""


@posix
@pytest.mark.parametrize("stopped", [False, True], ids=["that waits", "that is stopped"])
def test_it_ends_with_its_owner_whatever_ends_that(stopped: bool) -> None:
    if stopped and sys.platform != "linux":
        pytest.skip("only Linux ends a process that cannot see the end of a pipe")
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert owner.stdout
    with owner.stdout:
        host = psutil.Process(int(owner.stdout.readline()))
    if stopped:
        host.suspend()
    owner.kill()
    owner.wait()
    for _ in range(300):
        if not host.is_running() or host.status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        host.kill()
        pytest.fail("the process of the model outlives its owner")


@posix
def test_ctrl_c_is_for_the_owner_alone(model: ProcessModel) -> None:
    assert os.getpgid(model.pid) == model.pid
    os.kill(model.pid, signal.SIGINT)
    assert model.tokenizer.encode("ab") == [97, 98]


def test_the_memory_is_given_back(model: ProcessModel, hosts: Hosts) -> None:
    """Whatever the model holds: its process ends."""
    own = psutil.Process().memory_info().rss
    for _ in range(3):
        with load() as each:
            next(each.generate(Request([1])))
    assert psutil.Process().memory_info().rss - own < 30_000_000
    assert len(hosts()) == 1


@posix
def test_a_process_that_is_killed_while_it_starts_is_not_replaced_by_this_one(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What killed it, such as too little memory, would end the page next."""
    start = subprocess.Popen
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr(subprocess, "Popen", lambda _, **more: start(command, **more))
    with pytest.raises(ModelFileError, match="its process ended: it was killed"):
        load_model(Scripted, PATH, ScriptedOptions(), keep_going)
    assert hosts() == []


@pytest.mark.parametrize("how", ["it ends", "it says nothing", "the system refuses"])
def test_where_no_process_can_be_spoken_to_the_model_is_loaded_here(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code = "import time; time.sleep(60)" if how == "it says nothing" else "raise ImportError('no host')"
    command = ["no-such-program"] if how == "the system refuses" else [sys.executable, "-c", code]
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **more: start(command, **more))
    monkeypatch.setattr("loaders.process.proxy._PATIENCE", 0.3 if how == "it says nothing" else 60)
    model = load_model(Scripted, PATH, ScriptedOptions(), keep_going)
    assert not isinstance(model, ProcessModel)
    assert "own process" in caplog.text
