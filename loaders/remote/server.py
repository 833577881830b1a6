"""One model's servers: what they are asked, and where a request is sent.

A request goes to the least busy address; one that fails is left out for a while, and another one is tried as long as
nothing has arrived. An address that comes back is asked for its model first. It must not know the contract of models.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore

from errors import EngineFailed, InvalidInput, ModelClosed, Unavailable, UserError
from loaders import safe_json
from loaders.base import Report, Request
from loaders.remote.addresses import LEFT_OUT, Address, Addresses, Attempts
from loaders.remote.body import Body
from loaders.remote.connections import BROKEN, Answer, AnswerTooLarge, Connections, describe_break, headers_of
from loaders.remote.entry import RemoteEntry
from loaders.remote.failures import (
    RouteMissing,
    ServerModelChanged,
    ServerModelUnknown,
    ServerOverloaded,
    ServerUnreachable,
    failure_of_all,
    is_no_stream,
    not_json,
    refusal,
)
from loaders.remote.kinds import KINDS, LLAMA_SERVER, OPENAI, TABBY, ServerKind, kind_of_owner
from loaders.remote.replies import Event, Piece, read_llama_server, read_openai
from loaders.remote.sockets import Call

_SHORT = 1.0  # seconds for which an address is left out that may be able to answer other requests
_QUICK = 10.0  # seconds for an answer that no model computes
_MODELS, _LOADED = "/v1/models", "/v1/model"  # the second is TabbyAPI's
_LARGEST_ERROR = 1 << 16  # bytes of an answer that says what is wrong
_ERROR_SECONDS = 5.0  # from its headers to its end
_MOST_TOKENS = 1 << 31  # of a context; servers that say more are not believed
MOST_VOCABULARY = 1 << 22  # ids: each is a number of what `next_logits` returns


@dataclass
class SentReply:
    """`loaders.remote.stream.OpenReply`."""

    address: Address
    body: Body
    addresses: Addresses

    def release(self) -> None:
        try:
            with contextlib.suppress(*BROKEN):
                self.body.close()
        finally:
            self.addresses.release(self.address)


@dataclass(frozen=True)
class ServedModel:
    """What a server says of a model in its list."""

    name: str
    names: frozenset[str]  # with its other names
    owner: str
    context_length: int = 0
    n_vocab: int = 0


class Server:
    """May be used from several threads."""

    def __init__(self, entry: RemoteEntry, *, connect: float, read: float) -> None:
        """Time-outs in seconds. Raises: InvalidInput, for a key that cannot be read."""
        key = entry.key()
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "text-generation-webui",
        }
        if key:
            headers |= {"authorization": f"Bearer {key}"}
        self._keyed = bool(key)
        ca_file = entry.base / entry.ca_file if entry.ca_file else None
        self._connections = Connections(headers, connect=connect, read=read, ca_file=ca_file)
        self.addresses = Addresses(entry.addresses)
        self._entry = entry
        self.closed = False
        self.kind: ServerKind = LLAMA_SERVER
        self.model = ServedModel("", frozenset(), "")
        self._served: frozenset[str] = frozenset()
        #: The context length that each address says, as far as it does.
        self.lengths: dict[str, int] = {}
        #: Set by the model, which has the tokenizer: a token's bytes, and the text of ids.
        self.piece: Piece = lambda _: b""
        self.end_ids: frozenset[int] = frozenset()
        self.text_of: Callable[[Sequence[int]], str] = lambda _: ""

    # --- what is there ---

    def find_model(self) -> list[str]:
        """Ask every address for its models and decide on one. Returns notes. Raises: UserError if none answers."""
        notes: list[str] = []
        failures: list[UserError] = []
        found: ServedModel | None = None
        for address in self.addresses.all():
            try:
                served = self.models_at(address)
                chosen = _choose(address, served, found.name if found else self._entry.model)
            except UserError as error:
                failures.append(error)
                self.addresses.leave_out(address)
                notes.append(str(error))
                continue
            found = found or chosen
            self.note_length(address, chosen.context_length)
            self.addresses.restore(address)
        if found is None:
            raise failure_of_all(failures)
        self.model = found
        self._served = found.names
        self.kind = KINDS[self._entry.kind] if self._entry.kind else kind_of_owner(found.owner)
        return notes

    def note_length(self, address: Address, tokens: int) -> None:
        """What an address says of its context; 0 for nothing. The smaller one counts if it says two."""
        if tokens:
            self.lengths[address.url] = min(tokens, self.lengths.get(address.url, tokens))

    @property
    def context_length(self) -> int:
        """The smallest one of all addresses, as a request goes to any of them; 0 if none says one."""
        return min(self.lengths.values(), default=0)

    def models_at(self, address: Address, call: Call | None = None) -> list[ServedModel]:
        """Its list of models. Raises: UserError; httpcore's errors if the call has been cancelled."""
        value, route = self.json_at(address, "GET", _MODELS, call=call), _MODELS
        entries = value.get("data") if isinstance(value, dict) else None
        found = _all_served(entries)
        if found and kind_of_owner(found[0].owner) is TABBY:  # it lists what is on its disk
            value, route = self.json_at(address, "GET", _LOADED, call=call), _LOADED
            found = _all_served([{"owned_by": TABBY.owner, **value}] if isinstance(value, dict) else None)
        if not found:
            raise EngineFailed(f"the server at {address.url} lists no models at {route}.")
        return found

    # --- asking ---

    def json_at(self, address: Address, method: str, route: str, body: Any = None, read: float = _QUICK,
                call: Call | None = None) -> Any:  # fmt: skip
        """An answer in JSON. Raises: UserError."""
        answer = self._ask(address, method, route, body, read, call)
        if answer.status != 200:
            raise refusal(address.url, answer.status, answer.data, answer.headers, self._keyed)
        try:
            return safe_json.loads(answer.data)
        except ValueError:
            raise not_json(address.url, route, answer.headers) from None

    def json(self, method: str, route: str, body: Any = None, read: float = _QUICK, call: Call | None = None) -> Any:
        """As `json_at`, at the first address that answers. Raises: UserError."""
        attempts = Attempts()
        while (address := self._take(attempts)) is not None:
            verified = False
            try:
                self._verify(address, call)
                verified = True
                return self.json_at(address, method, route, body, read, call)
            except (ModelClosed, RouteMissing):
                raise
            except Unavailable as error:
                if not verified:  # otherwise, perhaps only this route does not work there
                    self.note_failure(address, error)
                attempts.failures.append(error)
            finally:
                self.addresses.release(address)
        raise failure_of_all(attempts.failures)

    def _ask(self, address: Address, method: str, route: str, body: Any, read: float, call: Call | None) -> Answer:
        if self.closed:
            raise ModelClosed
        data = b"" if body is None else json.dumps(body).encode()
        for again in (True, False):
            try:
                return self._connections.ask(method, address.at(route), data, call=call, read=read)
            except AnswerTooLarge:
                raise EngineFailed(f"the server at {address.url} answers with far too much at {route}.") from None
            except BROKEN as error:
                if self.closed:
                    raise ModelClosed from None
                if call and call.aborted:
                    raise
                if not again or not _was_idle(error):
                    self.addresses.leave_out(address)
                    raise ServerUnreachable(address.url, describe_break(error)) from None
        raise AssertionError

    # --- replies (loaders.remote.stream.Sender) ---

    def open(self, request: Request, call: Call, attempts: Attempts) -> SentReply:
        """Raises: UserError; httpcore's errors if it has been cancelled."""
        while (address := self._take(attempts)) is not None:
            kept = False
            try:
                self._verify(address, call)
                response = self._post(address, request, call)
                headers = headers_of(response)
                if response.status == 200 and not is_no_stream(headers):
                    kept = True
                    self.addresses.restore(address)
                    return SentReply(address, self._connections.body(response), self.addresses)
                data = _read_some(response, call)
                if response.status == 404:  # it may have another model now
                    address.suspect = True
                    self._verify(address, call)
                if response.status == 200:
                    raise not_json(address.url, self.kind.route, headers)
                raise refusal(address.url, response.status, data, headers, self._keyed)
            except ModelClosed:
                raise
            except Unavailable as error:  # that is not the request's fault
                self.note_failure(address, error)
                attempts.failures.append(error)
            finally:
                if not kept:
                    call.leave()
                    self.addresses.release(address)
        raise failure_of_all(attempts.failures)

    def _take(self, attempts: Attempts) -> Address | None:
        if (address := self.addresses.take(attempts.tried)) is not None:
            attempts.tried.append(address)
        return address

    def _post(self, address: Address, request: Request, call: Call) -> httpcore.Response:
        body = json.dumps(self.body(request)).encode()
        for again in (True, False):
            try:
                return self._connections.open("POST", address.at(self.kind.route), body, call)
            except BROKEN as error:
                if call.aborted:
                    raise
                if self.closed:
                    raise ModelClosed from None
                if not again or not _was_idle(error):
                    raise ServerUnreachable(address.url, describe_break(error)) from None
        raise AssertionError

    def body(self, request: Request) -> dict[str, Any]:
        """A request in the server's own form. Raises: UserError."""
        prompt: str | list[int] = list(request.ids)
        if not self.kind.ids:
            prompt = self.text_of(request.ids)
        return self.kind.fields(request, prompt, self.model.name)

    def read(self, data: Any, report: Report, request: Request) -> Event:
        if self.kind is LLAMA_SERVER:
            event = read_llama_server(data, report, request.alternatives)
        else:
            event = read_openai(data, report, self.piece)
        if event.tokens and event.tokens[-1].id in self.end_ids and not event.tokens[-1].data:
            event.tokens = event.tokens[:-1]  # it only says that the reply ends
        return event

    def check_model(self, address: Address, model: str) -> None:
        if model not in self._served and not (self.kind is OPENAI and _is_variant(model, self.model.name)):
            self.addresses.leave_out(address)
            raise ServerModelChanged(address.url, self.model.name, model)

    def note_failure(self, address: Address, error: UserError) -> None:
        if isinstance(error, ServerOverloaded):
            self.addresses.leave_out(address, min(error.seconds, LEFT_OUT) or _SHORT, suspect=False)
        elif type(error) is EngineFailed:  # perhaps only with this request
            self.addresses.leave_out(address, _SHORT)
        else:
            self.addresses.leave_out(address)

    def close(self) -> None:
        """End everything."""
        self.closed = True
        self._connections.close()

    def _verify(self, address: Address, call: Call | None) -> None:
        """After a failure or a pause, another model may be there, or none. Raises: Unavailable, and as `models_at`."""
        if not self.addresses.is_trusted(address):
            try:
                served = self.models_at(address, call)
            except (EngineFailed, InvalidInput) as error:  # the request that waits for this is not what is wrong
                raise ServerModelUnknown(error) from None
            if not any(each.names & self._served for each in served):
                raise ServerModelChanged(address.url, self.model.name, ", ".join(each.name for each in served[:3]))
            self.addresses.restore(address)


def _choose(address: Address, served: Sequence[ServedModel], wanted: str) -> ServedModel:
    """Raises: ServerModelChanged, if the wanted one is not there."""
    if not wanted:
        return served[0]
    for each in served:
        if wanted in each.names:
            return each
    raise ServerModelChanged(address.url, wanted, ", ".join(each.name for each in served[:3]))


def _all_served(entries: Any) -> list[ServedModel]:
    listed = entries if isinstance(entries, list) else ()
    return [_served(each) for each in listed if isinstance(each, dict) and each.get("id")]


def _served(entry: dict[str, Any]) -> ServedModel:
    meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
    assert isinstance(meta, dict)
    others = entry.get("aliases") if isinstance(entry.get("aliases"), list) else ()
    names = {str(entry["id"]), *(str(each) for each in others or () if isinstance(each, str))}
    own = entry.get("parameters")
    if isinstance(own, dict):
        meta = {**meta, "n_ctx": own.get("max_seq_len")}
    lengths = (entry.get("max_model_len"), entry.get("context_length"), meta.get("n_ctx"))
    return ServedModel(
        str(entry["id"]),
        frozenset(names),
        str(entry.get("owned_by") or ""),
        next((length for each in lengths if (length := count_of(each, _MOST_TOKENS))), 0),
        count_of(meta.get("n_vocab"), MOST_VOCABULARY),
    )


def count_of(value: Any, most: int = _MOST_TOKENS) -> int:
    """A number that a server says; 0 if it is none that can be true."""
    return value if type(value) is int and 0 < value <= most else 0


def _is_variant(said: str, wanted: str) -> bool:
    """Whether a reply's model may be the wanted one: services answer with a dated name, or leave the owner out."""
    names = [each.rpartition("/")[2].lower() for each in (said, wanted)]
    return names[0].startswith(names[1]) or names[1].startswith(names[0])


def _was_idle(error: BaseException) -> bool:
    """Whether a kept connection may just have been closed by the server, so that a new one works."""
    return isinstance(error, (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError))


def _read_some(response: httpcore.Response, call: Call) -> bytes:
    data = b""
    call.end_within(_ERROR_SECONDS)
    try:
        for part in response.iter_stream():
            data += part
            if len(data) > _LARGEST_ERROR:
                break
    except BROKEN:
        pass
    finally:
        response.close()
    return data
