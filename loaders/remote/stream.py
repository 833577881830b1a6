"""A reply that a server writes: sent when it is first read, straight through, ended on both sides when it is cancelled.

Its reader reads the connection itself, in a thread that waits for it or in an event loop (`listen`), so that nothing
waits in between. Another address is tried only while nothing has arrived. It must not know which kind of server it is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpcore

from errors import EngineFailed, InvalidInput, ModelClosed, UserError
from loaders import safe_json
from loaders.base import Finish, Report, Request, Token
from loaders.cancel import CancelEvent
from loaders.pushed_stream import Loop
from loaders.remote.addresses import Address, Attempts
from loaders.remote.body import Body
from loaders.remote.connections import BROKEN, describe_break
from loaders.remote.events import EventReader, EventTooLarge
from loaders.remote.failures import (
    ServerModelChanged,
    ServerUnreachable,
    StreamCut,
    excerpt,
    not_a_reply,
    served_error,
    too_long,
)
from loaders.remote.loop_reader import LoopReader
from loaders.remote.replies import Event, WrongForm
from loaders.remote.sockets import Call

_END = b"[DONE]"
_NO_REASON = "The server did not say why the reply ended."
#: What is still read after the end of a reply, so that its connection can be used again: seconds and bytes.
_REST_SECONDS, _REST_BYTES = 2.0, 1 << 18
#: Tokens after which a loop gets to others, though more have arrived.
_AT_ONCE = 256


class OpenReply(Protocol):
    """An answer whose headers have arrived, at one address."""

    address: Address
    body: Body

    def release(self) -> None:
        """It has been read to its end, or is given up."""
        ...


class Sender(Protocol):
    """Sends requests: `loaders.remote.server.Server`."""

    closed: bool

    def open(self, request: Request, call: Call, attempts: Attempts) -> OpenReply:
        """Send it to an address that has not been tried, and add that to them. Raises: UserError."""
        ...

    def read(self, data: Any, report: Report, request: Request) -> Event:
        """An event's tokens. Raises: KeyError, TypeError, ValueError."""
        ...

    def check_model(self, address: Address, model: str) -> None:
        """Raises: ServerModelChanged, if an event names another model than the one that was loaded."""
        ...

    def note_failure(self, address: Address, error: UserError) -> None:
        """It did not end the reply: others are asked first for a while."""
        ...


class ServerStream:
    """A PushedStream. Read by one thread."""

    def __init__(self, sender: Sender, request: Request, ended: Callable[[ServerStream], object]) -> None:
        """`ended` is called when it is cancelled, from any thread and more than once; `give_up` must be called soon
        then.
        """
        self.request = request
        self.report = Report(prompt_tokens=len(request.ids), seed=request.params.seed)
        self.first_token = 0.0
        self._started = self._heard = 0.0
        self._sender = sender
        self._call = Call()
        self._reply: OpenReply | None = None
        self._attempts = Attempts()
        self._in_loop: LoopReader | None = None
        self._events = EventReader()
        self._rest = _REST_BYTES
        self._done = False  # nothing that follows is part of the reply
        self._ready: deque[Token] = deque()
        self._over: BaseException | None = None  # what further calls get
        self._reading = threading.Lock()
        self._ended = ended
        if isinstance(request.cancel, CancelEvent):
            request.cancel.listen(self._cancelled)

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        """The next token. Raises: UserError."""
        while not self._ready:
            if self._over is None:
                with self._reading:
                    self._try(self._receive)
                if self._over is not None:
                    self.give_up()
                elif self.request.cancel.is_set():
                    self._ended(self)  # whoever cancelled it has found the connection in use
            if self._over is not None and not self._ready:
                raise self._over
        return self._ready.popleft()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._over is None

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first; 0 with fewer than two."""
        seconds = self.report.decode_seconds
        return (self.report.new_tokens - 1) / seconds if seconds > 0 else 0.0

    @property
    def waiting(self) -> bool:
        return bool(self._ready) or self._over is not None

    def listen(self, loop: Loop | None, wake: Callable[[], None]) -> bool:
        if loop is None or not loop.watches:
            return False
        self._in_loop = LoopReader(self, loop, wake)
        self._in_loop.send()
        return True

    def abort(self) -> None:
        """End its connection: its reader gets an error."""
        self._call.abort()

    def give_up(self) -> None:
        """Free its connection. Never waits: while its reader uses it, that calls `ended` when it has noticed."""
        if self._in_loop is not None and self._in_loop.is_elsewhere(self.give_up):
            return
        if not self._reading.acquire(blocking=False):
            return
        try:
            if isinstance(self.request.cancel, CancelEvent):
                self.request.cancel.forget(self._cancelled)
            self._release()
        finally:
            if self._over is None:
                self._end(Finish.CANCELLED)
                if self._in_loop is not None:
                    self._in_loop.look()  # nothing that arrives will wake its reader any more
            self._reading.release()

    # --- for its reader in a loop (loaders.remote.loop_reader) ---

    def send(self) -> None:
        """Wait until an answer has begun, or it is over."""
        with self._reading:
            while self._reply is None and self._over is None:
                self._try(self._open)

    def receive_now(self) -> None:
        """Take what has arrived, without waiting."""
        with self._reading:
            self._try(self._take_arrived)

    def check_time(self) -> float:
        """The seconds after which it may have been silent for too long; it fails if it has been. 0 once it is over."""
        if self._reply is None:
            return 0.0
        left = min(self._heard + self._reply.body.timeout, self._call.until) - time.monotonic()
        if left <= 0:
            with self._reading:
                self._try(_too_silent)
        return max(left, 0.0)

    @property
    def ending(self) -> bool:
        """Whether its last token has come, but not the end of the answer."""
        return self.report.finish is not None and self._over is None

    @property
    def body(self) -> Body | None:
        """What it reads now; None if no answer has begun, or it is over."""
        return self._reply.body if self._reply else None

    # --- inside, by one thread at a time ---

    def _try(self, receive: Callable[[], None]) -> None:
        """Receive, unless it is over. A broken connection is replaced if nothing has arrived."""
        if self._over is not None:
            return
        try:
            receive()
        except BROKEN as error:
            if self.report.finish is not None:
                self._end(self.report.finish)  # the reply is complete; only the end of the answer is not
            elif self.request.cancel.is_set():
                self._end(Finish.CANCELLED)
            elif self._sender.closed:
                self._over = ModelClosed()
            elif self._reply:
                url, why = self._reply.address.url, describe_break(error)
                tokens = self.report.new_tokens
                self._try_another(StreamCut(url, tokens, why) if tokens else ServerUnreachable(url, why))
        except (EngineFailed, ServerModelChanged) as error:
            if self.request.cancel.is_set():
                self._end(Finish.CANCELLED)
            elif self._reply:
                self._try_another(error)
            else:
                self._over = error
        except BaseException as error:
            cancelled = self.request.cancel.is_set()
            self._over = StopIteration() if cancelled else error
            if cancelled:
                self.report.finish = Finish.CANCELLED

    def _try_another(self, error: UserError) -> None:
        """This address failed: the next turn of the loop tries another one, if nothing has arrived."""
        assert self._reply
        self._sender.note_failure(self._reply.address, error)
        if self.report.new_tokens:
            self._over = error
        else:
            self._attempts.failures.append(error)
        self._release()
        self._events, self._done = EventReader(), False

    def _open(self) -> None:
        """Send it, unless it has been sent or cancelled."""
        if self._sender.closed:
            raise ModelClosed
        if self.request.cancel.is_set():
            self._end(Finish.CANCELLED)
        elif self._reply is None:
            self._started = self._started or time.monotonic()
            self._reply = self._sender.open(self.request, self._call, self._attempts)
            self._heard = time.monotonic()

    def _receive(self) -> None:
        """Wait until there are tokens, or it is over."""
        self._open()
        if self.report.finish is not None:
            self._call.end_within(_REST_SECONDS)
        while self._reply and self._over is None and not self._ready:
            self._take_piece(self._reply.body, self._reply.body.read())

    def _take_arrived(self) -> None:
        self._open()
        while self._reply and self._over is None and len(self._ready) < _AT_ONCE:
            body = self._reply.body
            if (piece := body.read_now()) is None:
                break
            self._heard = time.monotonic()
            self._take_piece(body, piece)
            if not (body.stream.more or body.ended):
                break

    def _take_piece(self, body: Body, piece: bytes) -> None:
        """A piece of the answer; empty at its end."""
        if not piece:
            if self.report.finish is None:
                self._check_end(body)
            self._end(self.report.finish or Finish.STOP)
        elif self.report.finish is not None and not self._has_room(piece):
            self._end(self.report.finish)
        elif not self._done:
            self._take_all(piece)

    def _check_end(self, body: Body) -> None:
        """At the end of an answer that has not said that the reply has ended: whether it is one.

        Raises: UserError; httpcore.RemoteProtocolError if the answer has not come to its end.
        """
        assert self._reply
        if other := self._events.other():
            raise not_a_reply(self._reply.address.url, other)
        # an answer that does not say its end ends with its connection, whyever that ended
        if not (body.whole and self.report.new_tokens and self._events.is_between):
            raise httpcore.RemoteProtocolError("it ended before the reply did")
        self.report.warnings.append(_NO_REASON)

    def _has_room(self, piece: bytes) -> bool:
        """Whether what has come after the end of the reply is as short as it must be."""
        self._rest -= len(piece)
        return self._rest >= 0

    def _take_all(self, piece: bytes) -> None:
        """The events in a piece of the answer. Raises: EngineFailed, InvalidInput, ServerModelChanged."""
        assert self._reply
        finished = self.report.finish is not None
        try:
            events = self._events.push(piece)
        except EventTooLarge as error:
            url = self._reply.address.url
            raise EngineFailed(f"the server at {url} sent what is not a part of a reply: {error}.") from None
        for data in events:
            if data == _END:
                self._done = True
                if self.report.finish is None:
                    self.report.finish = Finish.STOP
                    self.report.warnings.append(_NO_REASON)
                break
            try:
                self._take(data)
            except (EngineFailed, InvalidInput):
                if self.report.finish is None:  # a complete reply stays one, whatever follows
                    raise
        if self.report.finish is not None and not finished:
            self._call.end_within(_REST_SECONDS)

    def _take(self, data: bytes) -> None:
        """One event. Raises: EngineFailed, ServerModelChanged; InvalidInput if the prompt is too long."""
        assert self._reply
        url = self._reply.address.url
        try:
            value = safe_json.loads(data)
            if isinstance(value, dict) and value.get("error"):  # some servers write that there is none
                said = served_error(value)
                if longer := too_long(url, said, value):
                    raise longer
                raise EngineFailed(f"the server at {url} ended the reply: {said or 'no reason given'}.")
            event = self._sender.read(value, self.report, self.request)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = error if isinstance(error, WrongForm) else excerpt(data)
            raise EngineFailed(f"the server at {url} sent what is not a part of a reply: {what}.") from None
        if event.model:
            try:
                self._sender.check_model(self._reply.address, event.model)
            except ServerModelChanged as changed:
                if not self.report.new_tokens:
                    raise
                event.warnings.append(str(changed))
        self.report.warnings += event.warnings
        if event.tokens and self.report.finish is None:  # nothing follows the end of a reply
            self._count(len(event.tokens))
            self._ready.extend(event.tokens)
        if event.finish is not None:
            self.report.finish = event.finish

    def _count(self, tokens: int) -> None:
        now, report = time.monotonic(), self.report
        if not self.first_token:
            self.first_token = now
            report.prompt_seconds = now - self._started
        report.decode_seconds = now - self.first_token
        report.new_tokens += tokens

    def _end(self, finish: Finish) -> None:
        self.report.finish = finish
        self._over = StopIteration()

    def _release(self) -> None:
        self._call.leave()
        if (reply := self._reply) is not None:
            if self._in_loop is not None:
                self._in_loop.leave()
            self._reply = None
            reply.release()

    def _cancelled(self) -> None:
        self._call.abort()
        self._ended(self)


def _too_silent() -> None:
    raise httpcore.ReadTimeout("timed out")
