"""What a server of each kind is asked besides replies: what it is, its tokens, log-probabilities.

It must not know how requests are sent, or the contract of models.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from errors import Cancelled, EngineFailed, UserError
from loaders.base import Request
from loaders.remote.connections import BROKEN
from loaders.remote.failures import is_blocked
from loaders.remote.kinds import LLAMA_SERVER, SGLANG, TABBY, VLLM
from loaders.remote.server import MOST_VOCABULARY, Server, count_of
from loaders.remote.sockets import Call
from loaders.remote.tokenizers import EstimatedTokenizer, ServerTokenizer

_LONG = 600.0  # seconds for an answer that a model computes
_WITH_PIECES = 20_000  # characters: for longer texts, llama-server's pieces take too long to send


P = ParamSpec("P")
R = TypeVar("R")


def _expected_form(ask: Callable[P, R]) -> Callable[P, R]:
    """An answer in another form is an error with a sentence."""

    @functools.wraps(ask)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return ask(*args, **kwargs)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration) as error:
            raise EngineFailed(f"the server answered in an unexpected form ({error!r:.80}).") from None

    return run


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself. `version` "" and the numbers 0 if it does not."""

    version: str = ""
    context_length: int = 0
    slots: int = 0
    n_vocab: int = 0
    bos_token: str = ""
    eos_token: str = ""
    chat_template: str | None = None


def ask_facts(server: Server) -> ServerFacts:
    """Raises: UserError."""
    served = server.model
    if server.kind is LLAMA_SERVER:
        # the name is for one that has several models, which loads it now
        route = f"/props?model={quote(served.name, safe='')}"
        try:
            props = _mapping(server.json("GET", route, read=_LONG))
        except UserError as error:
            if not is_blocked(error, wrong_key=False):  # its list of models needs no key, other routes do
                raise
            props = {}
        if props:
            _ask_lengths(server, route)
        if not served.n_vocab:
            server.find_model()  # it tells more of one that is loaded
            served = server.model
        return ServerFacts(
            version=_text(props, "build_info"),
            context_length=server.context_length,
            slots=_number(props, "total_slots"),
            n_vocab=served.n_vocab,
            bos_token=_text(props, "bos_token"),
            eos_token=_text(props, "eos_token"),
            chat_template=_text(props, "chat_template") or None,
        )
    if server.kind is VLLM:
        version = _text(_mapping(_optional(server, "/version")), "version")
        info = _mapping(_optional(server, "/tokenizer_info"))  # only with --enable-tokenizer-info-endpoint
        return ServerFacts(
            version=version,
            context_length=server.context_length,
            n_vocab=count_of(info.get("vocab_size"), MOST_VOCABULARY),
            bos_token=_text(info, "bos_token"),
            eos_token=_text(info, "eos_token"),
            chat_template=_text(info, "chat_template") or None,
        )
    if server.kind is SGLANG:
        info = _mapping(_optional(server, "/get_server_info"))
        length = server.context_length or _number(info, "context_length") or _number(info, "max_total_num_tokens")
        return ServerFacts(version=_text(info, "version"), context_length=length)
    return ServerFacts(context_length=server.context_length)


def _ask_lengths(server: Server, route: str) -> None:
    """Each llama-server that answers for its context, of which its list of models may say nothing."""
    for address in server.addresses.all():
        if server.addresses.is_trusted(address):
            with contextlib.suppress(UserError):
                props = _mapping(server.json_at(address, "GET", route, read=_LONG))
                server.note_length(address, _number(_mapping(props.get("default_generation_settings")), "n_ctx"))


def make_tokenizer(server: Server, facts: ServerFacts) -> ServerTokenizer | EstimatedTokenizer:
    """The server's own if it can be reached, else an estimate, with which it is another kind. Raises: UserError."""
    kind = server.kind
    if kind.token_routes is None:
        return EstimatedTokenizer()
    try:
        return _servers_tokenizer(server, facts, *kind.token_routes)
    except UserError as error:
        if not is_blocked(error, wrong_key=True):  # the key is right, as the list of models has been read
            raise
        server.kind = kind.without_tokenizer()
        return EstimatedTokenizer()


def _servers_tokenizer(server: Server, facts: ServerFacts, encode: str, decode: str) -> ServerTokenizer:
    """Raises: UserError."""
    kind, model = server.kind, server.model.name

    @_expected_form
    def ask(text: str, add_bos: bool, special: bool) -> tuple[list[int], Sequence[bytes | str] | None]:
        if kind is LLAMA_SERVER:
            pieces = len(text) <= _WITH_PIECES
            body = {"model": model, "content": text, "add_special": add_bos, "parse_special": special,
                    "with_pieces": pieces}  # fmt: skip
            found = server.json("POST", encode, body)["tokens"]
            if not pieces:
                return [int(each) for each in found], None
            return [int(each["id"]) for each in found], [_piece(each["piece"]) for each in found]
        if kind is TABBY:
            body = {"text": text, "add_bos_token": add_bos, "encode_special_tokens": special}
        else:
            body = {"model": model, "prompt": text, "add_special_tokens": add_bos}
        if kind is VLLM and len(text) <= _WITH_PIECES:  # a token that is part of a character has no text, but a string
            body["return_token_strs"] = True
        found = server.json("POST", encode, body)
        return [int(each) for each in found["tokens"]], [str(each) for each in found.get("token_strs") or ()] or None

    @_expected_form
    def tell(ids: Sequence[int]) -> str:
        body: dict[str, Any] = {"model": model, "tokens": list(ids)}
        if kind is TABBY:
            body |= {"add_bos_token": False, "decode_special_tokens": True}
        found = server.json("POST", decode, body)
        return str(next(found[name] for name in ("content", "prompt", "text") if name in found))

    ask("a", False, False)  # is it there?
    return ServerTokenizer(
        ask,
        tell,
        n_vocab=facts.n_vocab,
        bos_token=facts.bos_token,
        eos_token=facts.eos_token,
        chat_template=facts.chat_template,
        splits=kind in (VLLM, SGLANG),
    )


@_expected_form
def top_logprobs(server: Server, request: Request, n_vocab: int, learn: Any) -> dict[int, float]:
    """The log-probabilities of the next token by id: of all tokens, or of as many as the server tells.

    `learn(id, bytes)` is called for each. Raises: UserError, Cancelled.
    """
    kind, ids = server.kind, list(request.ids)
    found: dict[int, float] = {}
    if kind is LLAMA_SERVER:
        body = {"model": server.model.name, "prompt": ids, "n_predict": 1, "n_probs": n_vocab, "temperature": 1.0,
                "samplers": ["temperature"], "cache_prompt": True, "return_tokens": True}  # fmt: skip
        answer = _asked(server, request, kind.route, body)
        for each in answer["completion_probabilities"][0]["top_logprobs"]:
            found[int(each["id"])] = float(each["logprob"] if each["logprob"] is not None else -math.inf)
            learn(int(each["id"]), bytes(each["bytes"]))
        return found
    if kind is VLLM:
        body = {"model": server.model.name, "prompt": ids, "max_tokens": 1, "logprobs": kind.most_logprobs,
                "temperature": 1.0, "return_tokens_as_token_ids": True, "add_special_tokens": False}  # fmt: skip
        answer = _asked(server, request, kind.route, body)
        for name, value in answer["choices"][0]["logprobs"]["top_logprobs"][0].items():
            found[int(name.removeprefix("token_id:"))] = float(value)
        return found
    body = {"input_ids": ids, "return_logprob": True, "top_logprobs_num": kind.most_logprobs,
            "sampling_params": {"max_new_tokens": 1, "temperature": 1.0}}  # fmt: skip
    answer = _asked(server, request, "/generate", body)
    for value, token, *_ in answer["meta_info"]["output_top_logprobs"][0]:
        found[int(token)] = float(value)
    return found


@_expected_form
def prompt_logprobs(server: Server, request: Request) -> npt.NDArray[np.float32]:
    """The log-probability of each token of the prompt but the first, shape (len(ids) - 1,).

    Raises: UserError, Cancelled.
    """
    ids = list(request.ids)
    if server.kind is VLLM:
        body = {"model": server.model.name, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0,
                "add_special_tokens": False}  # fmt: skip
        answer = _asked(server, request, server.kind.route, body)
        rows = answer["choices"][0].get("prompt_logprobs") or answer["prompt_logprobs"]
        values = [float(row[str(token)]["logprob"]) for row, token in zip(rows[1:], ids[1:], strict=True)]
    else:
        body = {"input_ids": ids, "return_logprob": True, "logprob_start_len": 0,
                "sampling_params": {"max_new_tokens": 1}}  # fmt: skip
        answer = _asked(server, request, "/generate", body)
        values = [float(value) for value, *_ in answer["meta_info"]["input_token_logprobs"][1:]]
    if len(values) != len(ids) - 1:
        raise EngineFailed("the server returned log-probabilities for another number of tokens.")
    return np.array(values, np.float32)


def _asked(server: Server, request: Request, route: str, body: dict[str, Any]) -> Any:
    """An answer that a model computes; `request.cancel` ends it. Raises: UserError, Cancelled."""
    call = Call()
    listen = getattr(request.cancel, "listen", None)
    if listen:
        listen(call.abort)
    try:
        return server.json("POST", route, body, _LONG, call)
    except BROKEN:
        raise Cancelled from None
    finally:
        if listen:
            request.cancel.forget(call.abort)  # type: ignore[attr-defined]


def _piece(piece: str | list[int]) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def _optional(server: Server, route: str) -> Any:
    try:
        return server.json("GET", route)
    except UserError:
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _number(values: dict[str, Any], name: str) -> int:
    return count_of(values.get(name))
