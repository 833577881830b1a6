"""A model's own process: `python -m loaders.process.host`. It loads one model and does what its owner requests.

Its standard input and output are the two pipes to the owner; it ends when the input is closed, whatever it is doing. It
imports what its loader needs and must know nothing above `loaders`.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from errors import UserError
from loaders import memo
from loaders.base import Finish, Loader, Model, Request
from loaders.cancel import CancelEvent
from loaders.engine.engine_model import QueuedModel
from loaders.job import Job
from loaders.process import wire
from loaders.process.streams import Outbox, OutboxQueue, RemoteProcessor
from loaders.worker_process import end_with

log = logging.getLogger(__name__)

_PROGRESS = 0.05  # seconds between two progress messages of a load
_STILL = 0.2  # and between two that say that a model that is being closed still writes
#: Calls that never wait for an engine, and how many of them run at a time. Each of the others gets a thread, because a
#: thread of the owner waits for it.
_SHORT_CALLS = ("tokenizer.encode", "pieces", "queue", "warm_labels", "warning")
_SHORT_THREADS = 4
_SHORT_TEXT = 4096  # characters that are encoded within a millisecond or so


class ModelHost:
    """One model and the requests to it."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._outbox = Outbox(channel)
        self._model: Model | None = None
        self._cancels: dict[int, CancelEvent] = {}  # of running requests
        self._processors: dict[int, RemoteProcessor] = {}
        self._short = ThreadPoolExecutor(_SHORT_THREADS, "call")

    def run(self) -> None:
        """Run until the owner closes it, or is gone."""
        self._outbox.put(wire.HelloMessage())
        while True:
            message = self._channel.receive()
            match message:
                case wire.GenerateMessage():
                    self._generate(message)
                case wire.CallMessage(method="tokenizer.encode", arguments=(str(text), *_)) if len(text) <= _SHORT_TEXT:
                    self._call(message)  # at once: a change of threads would take longer
                case wire.CallMessage(method=method) if method in _SHORT_CALLS:
                    self._short.submit(self._call, message)
                case wire.CallMessage():
                    self._accept_cancel(message.key)  # before its thread starts: the next message may cancel it
                    threading.Thread(target=self._call, args=(message,), name=message.method, daemon=True).start()
                case wire.CancelMessage(key=key):
                    if cancel := self._cancels.get(key):
                        cancel.set()
                case wire.ProcessedMessage(key=key):
                    if processor := self._processors.get(key):
                        processor.answer(message)
                case wire.WakeMessage(key=key):
                    if processor := self._processors.get(key):
                        processor.wake()
                case wire.LoadMessage():
                    threading.Thread(target=self._load, args=(message,), name="load", daemon=True).start()
                case wire.CloseMessage():
                    if self._model:
                        self._close(self._model)
                    self._outbox.flush(1)
                    return

    # --- inside ---

    def _load(self, message: wire.LoadMessage) -> None:
        said, at = "", 0.0

        def progress(fraction: float, doing: str) -> bool:
            nonlocal said, at
            if doing != said or time.monotonic() - at > _PROGRESS:
                said, at = doing, time.monotonic()
                self._outbox.put(wire.ProgressMessage(fraction, doing))
            return True  # an owner that cancels a load ends the process

        try:
            logging.basicConfig(format="%(message)s", level=logging.WARNING)
            logging.getLogger("loaders").setLevel(message.log_level)
            loader: type[Loader] = getattr(importlib.import_module(message.module), message.loader)
            memo.import_results(message.results)
            self._model = model = loader.load(message.path, message.options, progress)
            if isinstance(model, QueuedModel):
                model.on_step(self._outbox.send)
            self._outbox.put(_describe(model))
        except BaseException as error:
            if not isinstance(error, UserError):
                log.exception("Loading %s failed", message.path.name)
            self._outbox.put(wire.FailedMessage(wire.portable(error)))

    def _close(self, model: Model) -> None:
        """The owner waits longer for a model that says that it still writes."""
        closing = threading.Thread(target=model.close, name="close", daemon=True)
        closing.start()
        while closing.is_alive():
            if model.saving:
                self._outbox.put(wire.SavingMessage())
            closing.join(_STILL)

    def _accept_cancel(self, key: int) -> CancelEvent:
        return self._cancels.setdefault(key, CancelEvent())

    def _generate(self, message: wire.GenerateMessage) -> None:
        key = message.key
        processors: tuple[RemoteProcessor, ...] = ()
        cancel = self._accept_cancel(key)
        if message.processors:
            patience = message.patience if message.processors == "tokens" else None
            known = len(message.request["ids"])
            processors = (RemoteProcessor(key, self._outbox, patience, known, cancel),)
            self._processors[key] = processors[0]
        request = Request(**message.request, cancel=cancel, processors=processors)
        sink = _Stream(key, self._outbox, self._forget)
        try:
            assert self._model is not None
            if isinstance(self._model, QueuedModel):
                sink.job = Job(request, sink)
                self._model.start(sink.job)
            else:
                stream = self._model.generate(request)
                threading.Thread(target=self._forward, args=(stream, request, sink), daemon=True).start()
        except BaseException as error:
            self._forget(key)
            self._outbox.send(wire.ResultMessage(key, error=_logged(error)))
        else:
            self._outbox.send(wire.ResultMessage(key))

    def _forward(self, stream: Any, request: Request, sink: _Stream) -> None:
        """The reply of a model without one of our engines."""
        sink.job = Job(request)
        sink.job.report = stream.report
        try:
            for token in stream:
                sink.put(token)
                self._outbox.send()
            sink.put(stream.report.finish or Finish.STOP)
        except BaseException as error:
            sink.put(error)

    def _forget(self, key: int) -> None:
        self._cancels.pop(key, None)
        self._processors.pop(key, None)

    def _call(self, message: wire.CallMessage) -> None:
        key = message.key
        try:
            value = self._method(message)
            result = wire.ResultMessage(key, value)
        except BaseException as error:
            result = wire.ResultMessage(key, error=_logged(error))
        self._forget(key)
        self._outbox.send(result)

    def _method(self, message: wire.CallMessage) -> Any:
        model = self._model
        assert model is not None
        cancel = self._cancels.get(message.key)
        arguments = message.arguments
        match message.method:
            case "tokenizer.encode":
                text, add_bos, special = arguments
                return model.tokenizer.encode(text, add_bos=add_bos, special=special)
            case "pieces":
                return wire.PieceTable.of(model.tokenizer)
            case "next_logits":
                assert message.request is not None
                return model.next_logits(Request(**message.request, cancel=cancel or CancelEvent()))
            case "score":
                ids, start = arguments
                return model.score(ids, cancel, start)
            case "embed":
                return model.embed(arguments[0], cancel)
            case "set_loras":
                model.set_loras(arguments[0])
                return wire.LorasChanged(tuple(model.loras))
            case "grammar_start":
                return model.grammar_start(arguments[0])
            case "forget":
                return model.forget(arguments[0])
            case "warm_labels":
                return model.warm_labels()
            case "warning":
                return model.warning()
            case "queue":
                keys = {id(event): key for key, event in tuple(self._cancels.items())}
                return [
                    (
                        keys.get(id(each.cancel)),
                        (each.id, each.label, each.place, each.prompt_tokens, each.new_tokens, each.tokens_per_second),
                    )
                    for each in model.queue()
                ]
        raise NotImplementedError(message.method)


class _Stream(OutboxQueue):
    """Like its base; when the reply has ended, its key is removed."""

    def __init__(self, key: int, outbox: Outbox, forget: Callable[[int], None]) -> None:
        super().__init__(key, outbox)
        self._forget = forget

    def put(self, item: Any) -> None:
        if isinstance(item, BaseException):
            item = _logged(item)
        super().put(item)
        if isinstance(item, Finish | BaseException):
            self._forget(self._key)


def _logged(error: BaseException) -> BaseException:
    if not isinstance(error, UserError):
        log.error("A request failed", exc_info=error)
    return wire.portable(error)


def _describe(model: Model) -> wire.ReadyMessage:
    own = model.tokenizer
    names = ("name", "loader", "context_length", "memory", "options", "template_place")
    fields = {name: getattr(model, name) for name in names}
    fields |= {"notes": tuple(model.notes), "loras": tuple(model.loras)}
    return wire.ReadyMessage(
        {**fields, "unsupported": dict(model.unsupported), "caveats": dict(model.caveats)},
        {
            **{name: getattr(own, name) for name in ("n_vocab", "bos_token", "eos_token", "chat_template")},
            "end_ids": frozenset(own.end_ids),
            "control": frozenset(own.control),
            "special_ids": frozenset(own.special_ids),
            "special_pieces": {each: own.piece(each, special=True) for each in own.special_ids},
        },
        memo.export_results(),
    )


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, protected from anything else that reads standard input or prints."""
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return reading, writing


def _leave(code: int) -> None:
    """End this process and its children at once: the system frees all memory."""
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


def main() -> None:
    """Serve the owner, whose process id is the argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the owner, which ends this process
    reading, writing = _own_pipes()
    if not end_with(int(sys.argv[1])):
        _leave(0)
    try:
        ModelHost(wire.Channel(reading, writing)).run()
    except (EOFError, OSError):
        _leave(0)
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
