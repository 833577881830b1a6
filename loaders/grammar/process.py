"""One grammar process and the thread that talks to it. Requests wait in a queue; no caller waits for the thread.

If the process crashes because of one grammar, the others are loaded again, with all their tokens, by the next process.
It must not know of models or sampling.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from errors import EngineFailed, GrammarTooComplex, InvalidGrammar, ModelClosed, UserError
from loaders import worker_process
from loaders.grammar.messages import RequestKind, ResponseKind, read_message, write_message

log = logging.getLogger(__name__)

_IDLE = 60.0  # seconds without requests and grammars after which the process is ended


@dataclass(eq=False)
class MatcherSession:
    """A grammar that is being matched: its text, the tokens so far, and the process that has it."""

    id: int
    text: bytes
    tokens: list[int] = field(default_factory=list)
    stands_in: subprocess.Popen[bytes] | None = None
    failed: UserError | None = None
    closed: bool = False


@dataclass(eq=False)
class _Task:
    session: MatcherSession
    ask: RequestKind
    tokens: Sequence[int]
    answer: Future[bytes | None]


class _Died(Exception):
    """The process has ended. `killed`: from outside, by a person or the system, and not because of its computation."""

    def __init__(self, *, killed: bool) -> None:
        super().__init__()
        self.killed = killed


class GrammarProcess:
    """`ask`, `load` and `close` may be called from any thread."""

    def __init__(self, vocabulary: Callable[[], bytes], number: int) -> None:
        """`vocabulary` returns the first message for the process; it may take a second, and may raise ModelClosed."""
        self._vocabulary = vocabulary
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()  # guards the process and `_closed`
        self._closed = False
        self._waiting = 0
        self._sessions = 0
        self._thread = threading.Thread(target=self._loop, name=f"grammars {number}", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """How many requests wait, and how many grammars it matches."""
        return self._waiting, self._sessions

    def ask(self, session: MatcherSession, ask: RequestKind, tokens: Sequence[int] = ()) -> Future[bytes | None]:
        """Send a request: the mask, or None if there is none (the token was accepted). Raises UserError."""
        answer: Future[bytes | None] = Future()
        with self._guard:
            if self._closed:
                answer.set_exception(ModelClosed())
                return answer
            self._waiting += 1
            self._sessions += (ask is RequestKind.OPEN) - (ask is RequestKind.CLOSE)
            self._tasks.put(_Task(session, ask, tokens, answer))
        return answer

    def close(self) -> None:
        """End the process at once; all requests end with ModelClosed."""
        with self._guard:
            self._closed = True
            self._tasks.put(None)
            if self._process:
                self._process.kill()

    # --- the thread ---

    def _loop(self) -> None:
        while True:
            try:
                task = self._tasks.get(timeout=_IDLE)
            except Empty:
                if not self._sessions:
                    self._end()
                continue
            if task is None:
                break
            try:
                result = self._serve(task)
            except UserError as error:
                task.session.failed = task.session.failed or error
                self._settle(task, error)
            except Exception as error:
                log.exception("following a grammar failed")
                self._settle(task, EngineFailed(f"internal error ({error!r}). See the log for details."))
            else:
                self._settle(task, result)
        self._end()

    def _settle(self, task: _Task, result: bytes | BaseException | None) -> None:
        with self._guard:
            self._waiting -= 1
        if isinstance(result, BaseException):
            task.answer.set_exception(result)
        else:
            task.answer.set_result(result)

    def _serve(self, task: _Task) -> bytes | None:
        """Raises: UserError."""
        session = task.session
        if self._closed:
            raise ModelClosed
        if task.ask is RequestKind.CLOSE:
            if session.stands_in is self._process and self._process and self._process.poll() is None:
                with contextlib.suppress(_Died):
                    self._call(RequestKind.CLOSE, session.id, b"")
            return None
        if session.failed:
            raise session.failed
        if session.closed:
            return None  # nobody is waiting for it
        try:
            reply, payload = self._answer(task)
        except _Died as died:
            if self._closed:
                raise ModelClosed from None
            if not died.killed:
                raise GrammarTooComplex from None
            try:
                reply, payload = self._answer(task)  # a second attempt: it is to blame only if that crashes, too
            except _Died:
                raise GrammarTooComplex from None
        if task.ask is RequestKind.ACCEPT or (task.ask is RequestKind.TRY and reply is ResponseKind.YES):
            session.tokens += task.tokens
        if task.ask is RequestKind.REWIND:
            del session.tokens[-task.tokens[0] :]
        return None if reply is ResponseKind.YES else payload

    def _answer(self, task: _Task) -> tuple[ResponseKind, bytes]:
        """The response of a process that has parsed the grammar. Raises: _Died, UserError."""
        process = self._running()
        if task.session.stands_in is not process:
            self._replay(task.session, process)
        if task.ask is RequestKind.OPEN:
            return ResponseKind.YES, b""
        return self._call(task.ask, task.session.id, _packed(task.tokens))

    def _replay(self, session: MatcherSession, process: subprocess.Popen[bytes]) -> None:
        """Load a grammar into the process with all its tokens so far."""
        self._call(RequestKind.OPEN, session.id, session.text)
        for token in session.tokens:
            self._call(RequestKind.ACCEPT, session.id, _packed([token]))
        session.stands_in = process

    def _call(self, ask: RequestKind, session: int, payload: bytes) -> tuple[ResponseKind, bytes]:
        """Raises: _Died, InvalidGrammar, GrammarTooComplex."""
        process = self._process
        assert process
        assert process.stdin
        assert process.stdout
        try:
            write_message(process.stdin, ask, session, payload)  # type: ignore[arg-type]
            message = read_message(process.stdout)  # type: ignore[arg-type]
        except (OSError, ValueError):
            message = None
        if message is None:
            raise _Died(killed=self._end() in worker_process.KILLED)
        reply = ResponseKind(message[0])
        if reply is ResponseKind.INVALID:
            raise InvalidGrammar(message[2].decode("utf-8", "replace"))
        if reply is ResponseKind.TOO_COMPLEX:
            raise GrammarTooComplex
        return reply, message[2]

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, started if necessary. Raises: ModelClosed, EngineFailed."""
        if self._process and self._process.poll() is not None:  # it ended while idle
            self._end()
        if self._process:
            return self._process
        vocabulary = self._vocabulary()
        with self._guard:
            if self._closed:
                raise ModelClosed
            self._process = worker_process.start_worker("loaders.grammar.worker")
        try:
            self._call(RequestKind.VOCABULARY, 0, vocabulary)
        except _Died:
            if self._closed:
                raise ModelClosed from None
            raise EngineFailed("the grammar process could not be started. Is llguidance installed?") from None
        return self._process

    def _end(self) -> int:
        """End the process, if there is one; returns its exit code."""
        with self._guard:
            process, self._process = self._process, None
        if not process:
            return 0
        return worker_process.stop_worker(process)


def _packed(tokens: Sequence[int]) -> bytes:
    return b"".join([token.to_bytes(4, "little") for token in tokens])
