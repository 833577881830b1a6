"""What crosses between two processes: every error of ours with all that it holds, and words for every way to end."""

from __future__ import annotations

import importlib
import inspect
import io
import os
import pickle
import pkgutil
import signal
import threading
from collections.abc import Iterator

import pytest

import errors
import loaders
import modules
from errors import UserError
from loaders import memo
from loaders.cancel import CancelEvent
from loaders.process.death import describe_death
from loaders.process.wire import Channel, RemoteError, portable


def all_errors() -> Iterator[type[UserError]]:
    """Every class of errors for users, wherever it is defined."""
    names = [errors.__name__]
    for package in (loaders, modules):
        names += [each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in names:
        if "rrors" in name or name.startswith("loaders.process"):
            for found in vars(importlib.import_module(name)).values():
                if inspect.isclass(found) and issubclass(found, UserError) and found.__module__ == name:
                    yield found


def example(kind: type[UserError]) -> UserError:
    values = {"int": 3, "float": 2.0, "OSError": OSError(28, "No space"), "int | None": 4}
    given = [
        values.get(str(each.annotation), ["a", "b"] if "Iterable" in str(each.annotation) else "text")
        for each in list(inspect.signature(kind.__init__).parameters.values())[1:]
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    return kind(*given) if "__init__" in vars(kind) or kind.__init__ is not Exception.__init__ else kind("text")


@pytest.mark.parametrize(
    "kind", sorted(set(all_errors()), key=lambda each: each.__name__), ids=lambda each: each.__name__
)
def test_every_error_arrives_as_it_was(kind: type[UserError]) -> None:
    error = example(kind)
    error.extra = ["anything"]  # type: ignore[attr-defined]
    arrived = pickle.loads(pickle.dumps(portable(error)))
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert arrived.args == error.args


def test_what_cannot_be_sent_arrives_by_name() -> None:
    class Local(Exception):
        pass

    arrived = pickle.loads(pickle.dumps(portable(Local("some words"))))
    assert isinstance(arrived, RemoteError)
    assert (arrived.kind, str(arrived)) == ("Local", "some words")
    assert isinstance(portable(MemoryError("x")), MemoryError)
    assert isinstance(portable(ValueError(threading.Lock())), RemoteError)


GGML = "/home/user/llama.cpp/ggml/src/ggml.c:123: GGML_ASSERT(n > 0) failed"


@pytest.mark.parametrize(
    ("code", "lines", "kills", "words"),
    [
        (-6, [GGML], 0, "llama.cpp aborted: GGML_ASSERT(n > 0) failed (ggml.c:123)"),
        (-6, [GGML, "/x/ggml-backend.cpp:9: pre-allocated tensor"], 0, "GGML_ASSERT"),
        (-6, ["CUDA error: out of memory", "  current device: 0", "/x/ggml-cuda.cu:88: error"], 0, "driver reported"),
        (-6, ["terminate called after throwing an instance of 'std::bad_alloc'"], 0, "memory ran out"),
        (-9, ["anything"], 1, "out of memory"),
        (-9, ["anything"], 0, "SIGKILL"),
        (-15, [], 0, "SIGTERM"),
        (-11, [], 0, "SIGSEGV"),
        (-4, [], 0, "processor does not support"),
        (-getattr(signal, "SIGUSR1", 10), [], 0, "SIGUSR1" if os.name != "nt" else ""),
        (0xC0000005, [], 0, "memory access violation"),
        (0xC000001D, [], 0, "processor does not support"),
        (0xC0001234, [], 0, "0xc0001234"),
        (1, ["Traceback (most recent call last):", "ImportError: libcuda.so.1"], 0, "ImportError: libcuda.so.1"),
        (1, [], 0, "exit code 1"),
        (0, [], 0, "exit code 0"),
    ],
)  # fmt: skip
def test_the_reason_is_in_words(code: int, lines: list[str], kills: int, words: str) -> None:
    assert words in describe_death(code, lines, kills)


def test_messages_of_any_size_arrive_whole_and_a_sender_may_be_interrupted_by_itself() -> None:
    """The garbage collector may cancel a request in the middle of a write."""

    class Nested(io.RawIOBase):
        def __init__(self) -> None:
            self.written = b""
            self.nested = False

        def write(self, data: object) -> int:
            if not self.nested:
                self.nested = True
                channel.send("within")
            part = bytes(data)[:1000]  # type: ignore[call-overload]
            self.written += part
            return len(part)

    out = Nested()
    channel = Channel(io.BytesIO(), out)  # type: ignore[arg-type]
    channel.send("x" * 100_000)
    channel.send(["after"])
    back = Channel(io.BytesIO(out.written), out)  # type: ignore[arg-type]
    assert [back.receive(), back.receive(), back.receive()] == ["x" * 100_000, "within", ["after"]]
    with pytest.raises(EOFError):
        back.receive()


def test_a_cancel_event_tells_who_listens() -> None:
    event, heard = CancelEvent(), list[str]()
    event.listen(lambda: heard.append("first"))
    second = lambda: heard.append("second")  # noqa: E731
    event.listen(second)
    event.forget(second)
    event.set()
    event.listen(lambda: heard.append("late"))
    assert heard == ["first", "late"]
    assert event.wait(0)


def test_what_one_process_has_found_another_one_knows() -> None:
    calls: list[int] = []

    @memo.remembered(2, key=lambda number, unpicklable: number)
    def double(number: int, unpicklable: object) -> int:
        calls.append(number)
        return 2 * number

    assert [double(1, lambda: 0), double(1, lambda: 1), double(2, None)] == [2, 2, 4]
    exported = memo.export_results()
    double.cache_clear()
    memo.import_results(exported)
    assert double(2, None) == 4
    assert calls == [1, 2]
    double(3, None)
    assert list(double.results()) == [2, 3]
    memo.import_results(b"nothing")
