"""One grammar process and the thread that talks to it. What it is asked waits in a queue; nobody waits for the thread.

A process that dies of one grammar takes no other one along: those are read anew, with all their tokens, by the next
process. It must not know of models or of sampling.
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
from loaders.grammar.messages import Ask, Reply, read, write

log = logging.getLogger(__name__)

_IDLE = 60.0  # seconds without a question and without a grammar, after which the process is ended


@dataclass(eq=False)
class Session:
    """A grammar that is being followed: its text, the tokens so far, and in which process it stands."""

    id: int
    text: bytes
    tokens: list[int] = field(default_factory=list)
    stands_in: subprocess.Popen[bytes] | None = None
    failed: UserError | None = None
    closed: bool = False


@dataclass(eq=False)
class _Task:
    session: Session
    ask: Ask
    tokens: Sequence[int]
    answer: Future[bytes | None]


class _Died(Exception):
    """The process is gone. `killed`: from outside, by a person or the system, and not of what it computed."""

    def __init__(self, *, killed: bool) -> None:
        super().__init__()
        self.killed = killed


class GrammarProcess:
    """`ask`, `load` and `close` may be called from any thread."""

    def __init__(self, vocabulary: Callable[[], bytes], number: int) -> None:
        """`vocabulary` gives what the process is told first; it may take a second, and may raise ModelClosed."""
        self._vocabulary = vocabulary
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()  # over the process and `_closed`
        self._closed = False
        self._waiting = 0
        self._sessions = 0
        self._thread = threading.Thread(target=self._loop, name=f"grammars {number}", daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """How many questions wait, and how many grammars it follows."""
        return self._waiting, self._sessions

    def ask(self, session: Session, ask: Ask, tokens: Sequence[int] = ()) -> Future[bytes | None]:
        """The mask, or None where there is none to give (the token was taken, say). Its error is a UserError."""
        answer: Future[bytes | None] = Future()
        with self._guard:
            if self._closed:
                answer.set_exception(ModelClosed())
                return answer
            self._waiting += 1
            self._sessions += (ask is Ask.OPEN) - (ask is Ask.CLOSE)
            self._tasks.put(_Task(session, ask, tokens, answer))
        return answer

    def close(self) -> None:
        """End the process at once; all that is asked is answered with ModelClosed."""
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
                log.exception("a grammar failed")
                self._settle(task, EngineFailed(f"an internal error ({error!r}). The log has more."))
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
        if task.ask is Ask.CLOSE:
            if session.stands_in is self._process and self._process and self._process.poll() is None:
                with contextlib.suppress(_Died):
                    self._call(Ask.CLOSE, session.id, b"")
            return None
        if session.failed:
            raise session.failed
        if session.closed:
            return None  # nobody reads it
        try:
            reply, payload = self._answer(task)
        except _Died as died:
            if self._closed:
                raise ModelClosed from None
            if not died.killed:
                raise GrammarTooComplex from None
            try:
                reply, payload = self._answer(task)  # once more: it is to blame only if that ends it, too
            except _Died:
                raise GrammarTooComplex from None
        if task.ask is Ask.ACCEPT or (task.ask is Ask.TRY and reply is Reply.YES):
            session.tokens += task.tokens
        return None if reply is Reply.YES else payload

    def _answer(self, task: _Task) -> tuple[Reply, bytes]:
        """What a process says that has read the grammar. Raises: _Died, UserError."""
        process = self._running()
        if task.session.stands_in is not process:
            self._replay(task.session, process)
        if task.ask is Ask.OPEN:
            return Reply.YES, b""
        return self._call(task.ask, task.session.id, _packed(task.tokens))

    def _replay(self, session: Session, process: subprocess.Popen[bytes]) -> None:
        """Bring a grammar into the process, as far as it had come."""
        self._call(Ask.OPEN, session.id, session.text)
        for token in session.tokens:
            self._call(Ask.ACCEPT, session.id, _packed([token]))
        session.stands_in = process

    def _call(self, ask: Ask, session: int, payload: bytes) -> tuple[Reply, bytes]:
        """Raises: _Died, InvalidGrammar, GrammarTooComplex."""
        process = self._process
        assert process
        assert process.stdin
        assert process.stdout
        try:
            write(process.stdin, ask, session, payload)  # type: ignore[arg-type]
            message = read(process.stdout)  # type: ignore[arg-type]
        except (OSError, ValueError):
            message = None
        if message is None:
            raise _Died(killed=self._end() in worker_process.KILLED)
        reply = Reply(message[0])
        if reply is Reply.INVALID:
            raise InvalidGrammar(message[2].decode("utf-8", "replace"))
        if reply is Reply.TOO_COMPLEX:
            raise GrammarTooComplex
        return reply, message[2]

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, started where there is none. Raises: ModelClosed, EngineFailed."""
        if self._process and self._process.poll() is not None:  # it died while nothing was asked
            self._end()
        if self._process:
            return self._process
        vocabulary = self._vocabulary()
        with self._guard:
            if self._closed:
                raise ModelClosed
            self._process = worker_process.start("loaders.grammar.worker")
        try:
            self._call(Ask.VOCABULARY, 0, vocabulary)
        except _Died:
            if self._closed:
                raise ModelClosed from None
            raise EngineFailed("the process for grammars could not be started. Is llguidance installed?") from None
        return self._process

    def _end(self) -> int:
        """End the process, if there is one; its exit code."""
        with self._guard:
            process, self._process = self._process, None
        if not process:
            return 0
        return worker_process.end(process)


def _packed(tokens: Sequence[int]) -> bytes:
    return b"".join([token.to_bytes(4, "little") for token in tokens])
