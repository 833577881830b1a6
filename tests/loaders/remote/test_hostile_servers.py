"""Servers that do not answer as they should, or hardly: what works is a reply, and what does not is a sentence."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from errors import EngineFailed, InvalidInput, Overloaded, Unavailable, Unsupported, UserError
from loaders.base import Finish, Request
from loaders.remote.failures import ServerKeyRefused, ServerModelChanged, ServerMoved, ServerUnreachable, StreamCut
from tests.loaders.remote.conftest import Open, text_of
from tests.loaders.remote.scripted_server import OWNERS, ScriptedServer, encode

pytestmark = pytest.mark.usefixtures("reading")

REPLY = "P\u00e4r\u4e2ds \U0001f389"
STREAM = "content-type: text/event-stream"
Events = list[dict[str, Any]]


def events(reply: str = REPLY, finish: str | None = "stop") -> Events:
    parts: Events = [{"choices": [{"index": 0, "text": each, "finish_reason": None}]} for each in reply]
    return [*parts, *([{"choices": [{"index": 0, "text": "", "finish_reason": finish}]}] if finish else [])]


def lines(values: Iterable[Any], end: str = "\n", done: str = "[DONE]", between: str = "") -> bytes:
    texts = [json.dumps(each, ensure_ascii=False) for each in values]
    return "".join(f"{between}data: {each}{end}{end}" for each in (*texts, done) if each).encode()


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def chunked(data: bytes, size: int = 1 << 20, *, ended: bool = True, kind: str = STREAM) -> list[bytes]:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    written = [f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts]
    return [head(*([kind] if kind else []), "transfer-encoding: chunked"), *written, *([b"0\r\n\r\n"] if ended else [])]


def flood() -> Iterable[bytes]:
    yield from chunked(lines(events()), ended=False)
    yield from itertools.repeat(b"10000\r\n" + b": and so on\n".ljust(0x10000, b"x") + b"\r\n")


#: Name and what is sent.
READABLE: list[tuple[str, Callable[[], bytes | Iterable[bytes]]]] = [
    ("a byte a chunk", lambda: chunked(lines(events()), 1)),
    ("chunks of seven bytes", lambda: chunked(lines(events(), "\r\n"), 7)),
    ("carriage returns", lambda: chunked(lines(events(), "\r\n"))),
    ("pings", lambda: chunked(b": ping\n\n" + lines(events(), between=": ping\n\nevent: x\nid: 1\n"), 5)),
    ("a byte order mark", lambda: chunked(b"\xef\xbb\xbf" + lines(events()))),
    ("text/plain", lambda: chunked(lines(events()), kind="content-type: text/plain")),
    ("application/json", lambda: chunked(lines(events()), kind="content-type: application/json")),
    ("no type", lambda: chunked(lines(events()), kind="")),
    ("no chunks", lambda: head(STREAM, "connection: close") + lines(events())),
    ("HTTP/1.0", lambda: (head(STREAM) + lines(events())).replace(b"HTTP/1.1", b"HTTP/1.0")),
    ("cut after the reason", lambda: chunked(lines(events(), done=""), ended=False)),
    ("cut after the end", lambda: chunked(lines(events()), ended=False)),
    ("an end without a reason", lambda: chunked(lines(events(finish=None)))),
    ("a flood after the end", flood),
    ("no error in each event", lambda: chunked(lines([{**each, "error": None} for each in events()]))),
    ("the usage alone", lambda: chunked(lines([{"usage": {"prompt_tokens": 3}}, *events(), {"usage": {}}]))),
    ("another form after the end", lambda: chunked(lines([*events(), {"timings": 1}, [1], 5]))),
    ("no JSON after the end", lambda: chunked(lines(events(), done="[DONE ]"))),
    ("an error after the end", lambda: chunked(lines([*events(), {"error": {"message": "too late"}}]))),
    ("events without data", lambda: chunked(lines(events(), between="data:\n\ndata: \n\n"))),
    ("spaces after the mark of the end", lambda: chunked(lines(events(finish=None), done="[DONE]  "))),
    ("tokens after the end", lambda: chunked(lines([*events(), *events("more")]))),
    ("a long comment", lambda: chunked(b": " + b"x" * 3_000_000 + b"\n\n" + lines(events()), 10_000)),
    ("an event of 50 MB", lambda: chunked(lines([events()[0] | {"padding": "x" * 50_000_000}, *events()[1:]]))),
]  # fmt: skip


@pytest.mark.parametrize("sent", [each[1] for each in READABLE], ids=[each[0] for each in READABLE])
def test_what_can_be_read_is_a_reply(
    sent: Callable[[], bytes | Iterable[bytes]], connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loaders.remote.stream._REST_SECONDS", 600.0)  # whoever waits for it has hung
    with ScriptedServer("OpenAI", raw=sent()) as server:
        model = connect(server)
        stream = model.generate(Request(model.tokenizer.encode("abc")))
        assert b"".join(token.data for token in stream).decode() == REPLY
        assert stream.report.finish is Finish.STOP
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("reason", "finish", "early"),
    [
        ("stop", Finish.STOP, False),
        ("eos", Finish.STOP, False),
        ("length", Finish.LENGTH, False),
        ("max_tokens", Finish.LENGTH, False),
        ("abort", Finish.STOP, True),
        ("content_filter", Finish.STOP, True),
        ("error", Finish.STOP, True),
    ],
)
def test_a_reply_that_the_server_ends_early_says_so(reason: str, finish: Finish, early: bool, connect: Open) -> None:
    with ScriptedServer("OpenAI", raw=chunked(lines(events(finish=reason)))) as server:
        model = connect(server)
        stream = model.generate(Request(model.tokenizer.encode("abc")))
        assert b"".join(token.data for token in stream).decode() == REPLY
        assert stream.report.finish is finish
        assert stream.report.warnings == ([f"The server ended the reply early: {reason}."] if early else [])


def framed(data: bytes) -> bytes:
    return head(STREAM, f"content-length: {len(data)}") + data


WITHOUT_END = lines(events(finish=None), done="")
#: What is sent of a reply without a reason and without the mark of its end; whether the answer is complete.
ENDS: list[tuple[str, bytes | list[bytes], bool]] = [
    ("the last chunk", chunked(WITHOUT_END), True),
    ("the last chunk after small ones", chunked(WITHOUT_END, 5), True),
    ("all of its length", framed(WITHOUT_END), True),
    ("a comment at its end", chunked(WITHOUT_END + b": bye\n\n"), True),
    ("no last chunk", chunked(WITHOUT_END, ended=False), False),
    ("less than its length", framed(WITHOUT_END + b"data: more\n\n")[:-12], False),
    ("no length", head(STREAM, "connection: close") + WITHOUT_END, False),
    ("half an event", chunked(WITHOUT_END + b'data: {"choices": [{"te'), False),
    ("an event without its end", chunked(WITHOUT_END + b"data: {}\n"), False),
]


@pytest.mark.parametrize(("sent", "whole"), [each[1:] for each in ENDS], ids=[each[0] for each in ENDS])
def test_a_reply_without_a_mark_of_its_end(sent: bytes | list[bytes], whole: bool, connect: Open) -> None:
    """Formerly, every one was told as cut in the middle, although some servers end all of theirs so."""
    with ScriptedServer("OpenAI", raw=sent) as server:
        model: Any = connect(server)
        stream = model.generate(Request(model.tokenizer.encode("abc")))
        got: list[bytes] = []
        with contextlib.nullcontext() if whole else pytest.raises(StreamCut, match="What had arrived is kept"):
            got.extend(token.data for token in stream)
        assert b"".join(got).decode() == REPLY
        assert (stream.report.finish is Finish.STOP) is whole
        assert stream.report.warnings == (["The server did not say why the reply ended."] if whole else [])
        assert (model._server.addresses.all()[0].out_until > 0) is not whole
        assert not model.queue()


@pytest.mark.parametrize("data", [b"", b": ping\n\n", b'data: {"choices": []}\n\n'])
def test_an_answer_that_ends_without_any_text_is_no_reply(data: bytes, connect: Open) -> None:
    with ScriptedServer("OpenAI", raw=chunked(data)) as server:
        model = connect(server)
        with pytest.raises(ServerUnreachable, match="it ended the connection"):
            text_of(model, Request(model.tokenizer.encode("abc")))


@pytest.mark.parametrize("kind", ["OpenAI", "llama-server"])
def test_a_connection_that_is_not_ended_after_the_reply_is_closed(
    kind: str, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing more: formerly, the reader waited for the whole time-out, and then called the reply cut."""
    monkeypatch.setattr("loaders.remote.stream._REST_SECONDS", 0.05)
    with ScriptedServer(kind, reply=["a", "b"]) as server:

        def never_ends(handler: Any, data: bytes) -> None:
            if data:
                handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            else:
                server._hold(handler)

        server._chunk = never_ends  # type: ignore[method-assign]
        model = connect(server)
        assert text_of(model, Request(model.tokenizer.encode("abc"))) == "ab"
        assert server.left.wait(20)
        assert not model.queue()


#: Name, what is sent, the error, a part of the sentence.
UNREADABLE: list[tuple[str, bytes | list[bytes], type[UserError], str]] = [
    ("a web page", head("content-type: text/html; charset=utf-8") + b"<html>Log in</html>", EngineFailed, "a web page"),
    ("a page without a type", head() + b"<!doctype html>\n<html>\nLog in\n</html>", EngineFailed, "a web page"),
    ("gzip", head(STREAM, "content-encoding: gzip") + gzip.compress(lines(events())), EngineFailed, "form gzip"),
    ("an error", head("content-type: application/json") + b'{"error": {"message": "no GPU"}}', EngineFailed, "no GPU"),
    ("a whole reply", head() + json.dumps(events()[0], indent=1).encode(), EngineFailed, "does not stream"),
    ("a gateway's page", head("content-type: text/html", status="502 Bad Gateway") + b"<html><h1>502 Bad Gateway</h1>",
     ServerUnreachable, "its gateway answers with status 502"),
    ("later, as a date", head("retry-after: Fri, 31 Dec 2100 23:59:59 GMT", status="503 Busy") + b"<html>", Overloaded,
     "in 86400 seconds"),
    ("later, long ago", head("retry-after: Fri, 31 Dec 1999 23:59:59 GMT", status="429 Busy"), Overloaded, "a moment"),
    ("later, no number", head("retry-after: " + "9" * 5000, status="429 Busy"), Overloaded, "seconds"),
    ("nothing", head(STREAM), ServerUnreachable, "it ended the connection"),
    ("only comments", head(STREAM) + b": ping\n\n: ping\n\n", ServerUnreachable, "it ended the connection"),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ServerUnreachable, "does not speak HTTP"),
    ("no JSON", head(STREAM) + b"data: <html>\n\n", EngineFailed, "a reply: markup"),
    ("no text at all", head(STREAM) + bytes(range(256)) * 3, EngineFailed, "does not stream its reply"),
    ("unprintable", head(STREAM) + b"data: \x00\xff{\x1b\n\n", EngineFailed, "a reply: \ufffd\ufffd{\ufffd."),
    ("another form", head(STREAM) + b"data: [1]\n\n", EngineFailed, "a reply: [1]."),
    ("a chat", head(STREAM) + lines([{"choices": [{"delta": {"content": "Hi"}}]}]), EngineFailed, "the form of a chat"),
    ("half a character", head(STREAM) + b'data: {"choices": [{"text": "\\ud83d"}]}\n\n', EngineFailed, "not a part of"),
    ("chunks of no size", head(STREAM, "transfer-encoding: chunked") + b"zz\r\n", ServerUnreachable, "not speak HTTP"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "kind", "part"), [each[1:] for each in UNREADABLE], ids=[each[0] for each in UNREADABLE]
)
def test_what_cannot_be_read_is_a_sentence(sent: bytes, kind: type[UserError], part: str, connect: Open) -> None:
    with ScriptedServer("OpenAI", raw=sent) as server:
        model = connect(server)
        with pytest.raises(kind, match=re.escape(part)) as failure:
            text_of(model, Request(model.tokenizer.encode("abc")))
        assert server.url in str(failure.value)
        assert str(failure.value).endswith((".", ". Try again."))
        assert "<" not in str(failure.value)
        assert not model.queue()
        server.raw = chunked(lines(events()))
        if kind is not ServerUnreachable:
            assert text_of(model, Request(model.tokenizer.encode("abc"))) == REPLY


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_neither_a_request_nor_the_key_goes_where_a_server_points(status: str, connect: Open, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    with ScriptedServer("OpenAI", key="secret") as server, ScriptedServer("OpenAI") as other:
        model = connect(server, key_file="key")
        server.raw = head(f"location: {other.url}/v1/completions", "content-length: 0", status=status)
        with pytest.raises(ServerMoved, match=f"sends on to {other.url}") as failure:
            text_of(model, Request(model.tokenizer.encode("abc")))
        assert "secret" not in str(failure.value)
        assert other.paths == []


@pytest.mark.parametrize("kind", [*OWNERS])
def test_a_server_behind_a_path(kind: str, connect: Open) -> None:
    with ScriptedServer(kind, prefix="/llm/one") as server:
        model = connect(f"{server.url}/v1/")
        assert text_of(model, Request(model.tokenizer.encode("abc"))) == "Paris"
        assert all(each.startswith("/llm/one/") for each in server.paths)


BLOCKED = {
    "404": head("content-type: text/html", status="404 Not Found") + b"<html>",
    "405": head(status="405 Method Not Allowed") + b"{}",
    "403": head(status="403 Forbidden") + b"<html>",
    "302": head("location: /login", status="302 Found"),
    "a page": head("content-type: text/html") + b"<html>Welcome",
}


def let_through(server: ScriptedServer, route: str, page: bytes) -> None:
    """As a proxy in front of it that answers anything else with this page."""
    answer = server._answer

    def through(handler: Any, body: Any) -> None:
        if handler.path.startswith(route):
            answer(handler, body)
        else:
            server._send_raw(handler, [page])

    server._answer = through  # type: ignore[method-assign]
    server._part = lambda text, body: {"choices": [{"text": text}], "model": server.model}  # type: ignore[method-assign]
    server._end = lambda body: [{"choices": [{"text": "", "finish_reason": "stop"}]}, "[DONE]"]  # type: ignore[method-assign]


@pytest.mark.parametrize("addresses", [1, 2])
def test_a_llama_server_that_refuses_the_key_is_told_although_its_list_needs_none(
    addresses: int, connect: Open
) -> None:
    page = head(status="401 Unauthorized") + b"{}"
    with ScriptedServer() as server, ScriptedServer() as other:
        let_through(server, "/v1/models", page)
        let_through(other, "/v1/models", page)
        with pytest.raises(Unavailable, match="requires a key"):
            connect(*[server, other][:addresses])


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        pytest.param(kind, page, id=f"{kind}: {name}")
        for kind in ("vLLM", "SGLang", "llama-server")
        for name, page in BLOCKED.items()
    ],
)
@pytest.mark.parametrize("addresses", [1, 2])
def test_a_server_of_which_a_proxy_lets_only_some_routes_through(
    kind: str, page: bytes, addresses: int, connect: Open
) -> None:
    """Formerly, it was loaded, and then no request worked, as its tokenizer did not answer."""
    with ScriptedServer(kind, reply=["Pa", "ris"]) as server, ScriptedServer(kind) as other:
        let_through(server, "/v1/", page)
        let_through(other, "/v1/", page)
        model = connect(server, other) if addresses == 2 else connect(server)
        if addresses == 2:
            other.kill()
        assert f"estimated from the text's length. {kind} does not answer at /tokenize here" in " ".join(model.notes)
        assert text_of(model, Request(model.tokenizer.encode("<s>a prompt"), alternatives=1)) == "Paris"
        body = server.bodies[-1]
        assert body["prompt"] == "<s>a prompt"
        assert body.get("skip_special_tokens", True) is True
        assert body.get("add_special_tokens", True) is True
        assert not any(body.get(name) for name in ("return_token_ids", "return_tokens_as_token_ids"))
        for ability, use in (
            ("tokens", lambda: model.require("tokens")),
            ("logits", lambda: model.next_logits(Request([1]))),
            ("score", lambda: model.score([1, 2])),
        ):
            assert not model.supports(ability)
            with pytest.raises(Unsupported, match="does not answer at /tokenize"):
                use()


@pytest.mark.parametrize("page", BLOCKED.values(), ids=[*BLOCKED])
@pytest.mark.parametrize("addresses", [1, 2])
def test_a_llama_server_whose_properties_are_blocked(addresses: int, page: bytes, connect: Open) -> None:
    """With status 403, a missing key was told, although its list of models and its tokenizer answer."""
    with ScriptedServer() as server, ScriptedServer() as other:
        for each in (server, other):
            facts = each._answer
            each._answer = (  # type: ignore[method-assign]
                lambda handler, body, each=each, facts=facts: (
                    each._send_raw(handler, [page]) if handler.path.startswith("/props") else facts(handler, body)
                )
            )
        model = connect(*[server, other][:addresses])
        assert model.supports("tokens")
        assert model.context_length == 4096
        assert text_of(model, Request(encode("abc"))) == "Paris"


def test_ipv6(connect: Open) -> None:
    try:
        server = ScriptedServer(host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        model = connect(server)
        assert text_of(model, Request(encode("abc"))) == "Paris"
        assert "[::1]" in model.notes[0]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
def test_names_that_nobody_has(host: str, connect: Open) -> None:
    with pytest.raises(ServerUnreachable, match="its name is not known here"):
        connect(f"http://{host}:1")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that nobody knows, for 127.0.0.1, with its key in the same file."""
    if not (program := shutil.which("openssl")):
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
               "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-",
               "-out", "-"]  # fmt: skip
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificates(connect: Open, certificate: Path, tmp_path: Path) -> None:
    with ScriptedServer(tls=server_side(certificate)) as server:
        with pytest.raises(
            ServerUnreachable, match="its certificate is not trusted; name its authority's with ca_file"
        ):
            connect(server)
        model = connect(server, ca_file=str(certificate))
        assert text_of(model, Request(encode("abc"))) == "Paris"
        assert text_of(model, Request(encode("abc"))) == "Paris"
        (tmp_path / "empty.pem").write_text("nothing")
        for name in ("missing.pem", "empty.pem"):
            with pytest.raises(InvalidInput, match=f"ca_file: .*{name} cannot be read as certificates"):
                connect(server, ca_file=name)
    with ScriptedServer() as plain, pytest.raises(ServerUnreachable, match="does not speak TLS"):
        connect(plain.url.replace("http:", "https:"), options={"remote_connect_timeout": 5})


def test_a_key_of_several_lines_in_the_environment(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("a\nb", "\u00fc"):
        monkeypatch.setenv("A_KEY", value)
        with ScriptedServer() as server, pytest.raises(InvalidInput, match="A_KEY does not contain a key"):
            connect(server, key_env="A_KEY")


def test_a_list_of_ten_thousand_models(connect: Open) -> None:
    with ScriptedServer() as server:
        names = [f"org/{'x' * 60}-{number}" for number in range(10_000)]
        server._facts_of_list = {"data": [{"id": each, "owned_by": "somebody"} for each in names]}  # type: ignore[attr-defined]
        facts = server._facts
        server._facts = (  # type: ignore[method-assign]
            lambda path, body: server._facts_of_list if path == "/v1/models" else facts(path, body)  # type: ignore[attr-defined]
        )
        assert connect(server, model=names[-1]).name == names[-1].removeprefix("org/")
        with pytest.raises(ServerModelChanged) as failure:
            connect(server, model="y" * 10_000)
        assert len(str(failure.value)) < 1000


@pytest.mark.parametrize("said", [True, -5, 0, "4096", 1e9, 10**30, None, [4096], {"a": 1}])
@pytest.mark.parametrize("kind", ["vLLM", "llama-server", "TabbyAPI"])
def test_a_context_length_that_cannot_be_true_is_not_believed(kind: str, said: Any, connect: Open) -> None:
    with ScriptedServer(kind, context=said) as server:
        model = connect(server)
        assert model.context_length == 8192
        assert "assumed, because the server does not say" in " ".join(model.notes)


def test_a_vocabulary_that_cannot_be_true_is_not_believed(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in (10**12, -3, True):
        monkeypatch.setattr("tests.loaders.remote.scripted_server.N_VOCAB", said)
        with ScriptedServer() as server:
            model = connect(server)
            assert len(model.next_logits(Request(encode("abc")))) < 1 << 22


@pytest.mark.parametrize(
    ("status", "kind", "part"),
    [
        ("200 OK", EngineFailed, "answers with a web page at /v1/models"),
        ("307 There", ServerMoved, "sends on"),
        ("401 Log in", ServerKeyRefused, "requires a key"),
        ("404 Not Found", EngineFailed, "status 404"),
        ("502 Bad Gateway", ServerUnreachable, "status 502"),
    ],
)
def test_pages_in_place_of_the_list(status: str, kind: type[UserError], part: str, connect: Open) -> None:
    with ScriptedServer() as server:
        page = head("content-type: text/html", status=status) + b"<html>Hello</html>"
        server._answer = lambda handler, body: server._send_raw(handler, [page])  # type: ignore[method-assign]
        with pytest.raises(kind, match=part) as failure:
            connect(server)
        assert "html" not in str(failure.value)


def test_services_that_name_a_models_version_in_replies(connect: Open) -> None:
    """OpenAI's answers name the dated model that an undated name stands for."""
    with ScriptedServer("OpenAI", model="gpt-4o") as server:
        model = connect(server)
        server.model = "gpt-4o-2024-08-06"
        assert text_of(model, Request(model.tokenizer.encode("abc"))) == "Paris"
        server.model = "llama"
        with pytest.raises(ServerModelChanged, match="now it has llama"):
            text_of(model, Request(model.tokenizer.encode("abc")))


def test_a_port_where_something_else_listens(connect: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.settimeout(20)

        def greet() -> None:
            for _ in range(2):
                other, _ = listening.accept()
                other.recv(1 << 16)
                other.sendall(b"220 mail.example ESMTP\r\n")
                other.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(ServerUnreachable, match=r"does not speak HTTP|it ended the connection"):
            connect(url)
