"""Access control: keys, origins, hosts, limits; and what is never logged."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from errors import InvalidInput
from modules.api.keys import ApiKeys
from modules.config.server_flags import ServerFlags, openness_warnings
from modules.web.origins import OriginRules
from modules.web.request_bodies import BodyPace
from tests.api.conftest import Client
from tests.fake_engine import FakeModel

Start = Callable[..., Client]
ASK = {"prompt": "x"}


def test_a_key_is_asked_for_before_any_work(start: Start) -> None:
    client = start("--api-key", "sesame", key="sesame")
    assert client.post("/v1/completions", ASK).status_code == 200
    for header in ("", "Bearer", "Bearer wrong", "Bearer sesam", "Bearer sesame2"):
        got = client.post("/v1/completions", ASK, headers={"Authorization": header})
        assert got.status_code == 401
        assert got.json()["error"]["code"] == "invalid_api_key"
    assert len(client.app.models.loaded.requests) == 1
    for path in ("/v1/internal/health", "/health"):
        assert client.get(path, headers={"Authorization": ""}).json() == {"status": "ok"}


def test_the_admin_key_alone_changes_the_model(start: Start) -> None:
    client = start("--api-key", "user", "--admin-key", "boss", key="user")
    for path, method in (("model/list", "GET"), ("lora/list", "GET"), ("model/unload", "POST"), ("model/load", "POST")):
        assert client.http.request(method, f"/v1/internal/{path}").status_code == 401
    boss = {"Authorization": "Bearer boss"}
    assert client.get("/v1/internal/model/list", headers=boss).status_code == 200
    assert client.get("/v1/models", headers=boss).status_code == 200


def test_stop_generation_stops_the_page_s_replies_only_for_the_admin(start: Start) -> None:
    client = start("--api-key", "user", "--admin-key", "boss", key="user")
    model = client.use(FakeModel(hold_after=1))
    stream = client.app.generator.session().start("x", client.app.launch_params(), label="a chat of the page")
    next(stream)
    assert client.post("/v1/internal/stop-generation").json() == {"stopped": 0}
    assert model.running == 1
    assert client.post("/v1/internal/stop-generation", headers={"Authorization": "Bearer boss"}).json() == {
        "stopped": 1
    }
    assert not model.running


def test_a_page_of_another_origin_gets_nothing_without_a_key(api: Client) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"):
        for body in ({}, {"content": b'{"prompt": "x"}', "headers": {"Content-Type": "text/plain"}}):
            headers = {**body.get("headers", {}), "Origin": origin}
            got = api.http.post("/v1/completions", content=body.get("content"), headers=headers)
            assert got.status_code == 403
            assert "access-control-allow-origin" not in got.headers
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        assert api.http.options("/v1/completions", headers=preflight).status_code == 403
    assert api.post("/v1/completions", ASK, headers={"Origin": api.url}).status_code == 200
    assert len(api.app.models.loaded.requests) == 1


@pytest.mark.parametrize(
    "flags",
    [("--cors-origin", "https://chat.example"), ("--api-key", "k"), ("--admin-key", "k"), ("--cors-origin", "*")],
)
def test_browser_clients_get_cors_where_the_user_allows_them(start: Start, flags: tuple[str, ...]) -> None:
    client = start(*flags, key="k")
    origin = "https://chat.example"
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        "Access-Control-Request-Private-Network": "true",
        "Authorization": "",
    }
    asked = client.http.options("/v1/chat/completions", headers=preflight)
    assert asked.status_code < 300
    assert asked.headers["access-control-allow-origin"] == origin
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert asked.headers["access-control-allow-private-network"] == "true"
    for body in (ASK, {**ASK, "stream": True}, {**ASK, "temperature": -1}):
        got = client.post("/v1/completions", body, headers={"Origin": origin})
        assert got.headers["access-control-allow-origin"] == origin


def cors(got: Any) -> dict[str, str]:
    return {name: value for name, value in got.headers.items() if name.startswith("access-control-")}


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Authorization": ""}


@pytest.mark.parametrize(
    ("flags", "origin", "headers", "reads"),
    [
        # a key: whoever sends it, in whichever header, reads the answer
        (("--api-key", "k"), "https://evil.example", {"Authorization": "Bearer k"}, True),
        (("--api-key", "k"), "http://127.0.0.1:8000", {"X-API-Key": "k"}, True),
        (("--admin-key", "k"), "https://evil.example", {"X-API-Key": "k"}, True),
        (("--api-key", "a", "--admin-key", "k"), "null", {"X-API-Key": "k"}, True),
        # and nobody else, whatever the request
        (("--api-key", "k"), "https://evil.example", {"Authorization": "Bearer wrong"}, False),
        (("--api-key", "k"), "https://evil.example", {"Authorization": ""}, False),
        (("--api-key", "k"), "null", {"Cookie": "key=k"}, False),
        (("--admin-key", "k"), "https://evil.example", {"Authorization": ""}, False),
        # a preflight contains no key; it says whether one will be sent
        (("--api-key", "k"), "https://evil.example", {**PREFLIGHT}, False),
        (("--api-key", "k"), "https://evil.example", {**PREFLIGHT, "Access-Control-Request-Headers": "a, b"}, False),
        (("--api-key", "k"), "http://x:1", {**PREFLIGHT, "Access-Control-Request-Headers": "authorization"}, True),
        (("--api-key", "k"), "http://x:1", {**PREFLIGHT, "Access-Control-Request-Headers": "a,X-API-Key"}, True),
        ((), "http://x:1", {**PREFLIGHT, "Access-Control-Request-Headers": "authorization"}, False),
        # a named origin may read the error without a key
        (("--api-key", "k", "--cors-origin", "http://x:1"), "http://x:1", {"Authorization": ""}, True),
        (("--api-key", "k", "--cors-origin", "http://x:1"), "http://x:2", {"Authorization": ""}, False),
    ],
)
def test_cors_answers_are_for_who_shows_a_key_or_was_named(
    start: Start, flags: tuple[str, ...], origin: str, headers: dict[str, str], reads: bool
) -> None:
    client = start(*flags)
    method = "OPTIONS" if "Access-Control-Request-Method" in headers else "GET"
    for path in ("/v1/models", "/health", "/nowhere"):
        got = client.http.request(method, path, headers={"Origin": origin, **headers})
        assert (got.headers.get("access-control-allow-origin") == origin) is reads, (path, got.status_code)
        assert bool(cors(got)) is reads
        assert "*" not in cors(got).values()
        assert "access-control-allow-credentials" not in got.headers


def test_with_a_key_other_host_names_are_answered_to_who_has_it(start: Start) -> None:
    client = start("--api-key", "k", "--admin-key", "boss")
    for key, status in (("k", 200), ("wrong", 401)):
        asked = client.get("/v1/models", headers={"Host": "proxy.example", "Authorization": f"Bearer {key}"})
        assert asked.status_code == status
    client = start("--admin-key", "boss")  # the other routes are open: there the host counts
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/v1/models", headers={"Host": "evil.example", "X-API-Key": "boss"}).status_code == 200


def test_a_rebound_name_is_not_answered(api: Client) -> None:
    for host in ("evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example"):
        assert api.get("/v1/models", headers={"Host": host}).status_code == 400
    for host in ("localhost", "localhost:9", "127.0.0.1:1", "[::1]:5000", "192.168.0.7:5000"):
        assert api.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "host", "good"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860", True),
        ("http://127.0.0.1:7860", "127.0.0.1:5000", False),
        ("https://box", "box", True),
        ("https://box:443", "box", True),
        ("http://[::1]:7860", "[::1]:7860", True),
        ("http://a@127.0.0.1:7860", "127.0.0.1:7861", False),
        ("http://[", "[", False),
        ("http://x:99999999", "x:99999999", False),
        (None, "anything", True),
    ],
)
def test_the_same_origin_is_the_same_host_and_port(origin: str | None, host: str, good: bool) -> None:
    assert (OriginRules().refuses_origin(origin, host) is None) is good


def test_large_bodies_and_crowds_are_refused(start: Start) -> None:
    client = start("--api-max-body", "1", "--api-max-requests", "1")
    big = client.post("/v1/internal/encode", {"text": "x" * (1 << 21)})
    assert big.status_code == 413

    def pieces() -> Any:
        for _ in range(40):
            yield b"x" * (1 << 16)

    assert client.http.post("/v1/internal/encode", content=pieces()).status_code == 413
    model = client.use(FakeModel(hold_after=1))
    with client.http.stream("POST", "/v1/completions", json={**ASK, "stream": True}):
        assert model.holding.wait(5)
        assert client.post("/v1/internal/encode", {"text": "x"}).status_code == 429
        assert client.get("/v1/internal/health").status_code == 200


def test_half_sent_bodies_keep_nobody_out(start: Start) -> None:
    client = start("--api-max-requests", "2")
    host, port = client.url.removeprefix("http://").split(":")
    head = b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100"
    with contextlib.ExitStack() as open_:
        for _ in range(40):
            half = open_.enter_context(socket.create_connection((host, int(port)), timeout=30))
            half.sendall(head + b"\r\n\r\n{")
        for _ in range(5):
            assert client.post("/v1/completions", ASK).status_code == 200
    assert client.post("/v1/completions", ASK).status_code == 200


def test_half_a_body_is_answered_in_a_sentence(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.api.request_bodies.BodyPace", lambda: BodyPace(idle=0.2, grace=0.3))
    client = start("--cors-origin", "http://x:1")

    def half() -> Any:
        yield b'{"prompt": '
        time.sleep(1.5)  # the answer is there before this ends
        yield b""

    got = client.http.post("/v1/completions", content=half(), headers={"Origin": "http://x:1"})
    assert got.status_code == 408
    assert got.json()["error"]["code"] == "request_timeout"
    assert got.headers["access-control-allow-origin"] == "http://x:1"
    assert got.headers["x-request-id"]
    assert client.post("/v1/completions", ASK).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_the_limit_counts_replies(start: Start, stream: bool) -> None:
    client = start("--api-max-requests", "4")
    many = ({"n": 5}, {"best_of": 5}, {"prompt": ["a"] * 5}, {"prompt": ["a", "b", "c"], "n": 2})
    for more in many:
        if stream and "best_of" in more:
            continue
        got = client.post("/v1/completions", {**ASK, **more, "stream": stream})
        assert got.status_code == 400, more
        assert "--api-max-requests" in got.json()["error"]["message"]
    chat = {"messages": [{"role": "user", "content": "x"}], "n": 5, "stream": stream}
    assert client.post("/v1/chat/completions", chat).status_code == 400
    model = client.use(FakeModel(hold_after=1))
    with client.http.stream("POST", "/v1/completions", json={**ASK, "n": 3, "stream": True}):
        assert model.holding.wait(5)
        assert client.post("/v1/completions", {**ASK, "n": 2, "stream": stream}).status_code == 429
        assert client.post("/v1/internal/encode", {"text": "x"}).status_code == 200
    client.use(FakeModel())
    end = time.monotonic() + 30
    while client.post("/v1/completions", {**ASK, "n": 4}).status_code != 200:  # the slots are free again
        assert time.monotonic() < end


@pytest.mark.parametrize("depth", [50, 150, 400, 900, 5_000, 100_000])
@pytest.mark.parametrize("form", ['{"a":%s}', "[%s]"])
def test_deep_bodies_are_answered(api: Client, depth: int, form: str) -> None:
    left, right = form.split("%s")
    deep = left * depth + "1" + right * depth
    for path, body in (
        ("/v1/completions", '{"prompt": %s}'),
        ("/v1/completions", '{"prompt": "x", "other": %s}'),
        ("/v1/completions", '{"prompt": "x", "response_format": {"type": "json_schema", "json_schema": %s}}'),
        ("/v1/chat/completions", '{"messages": [{"role": "user", "content": %s}]}'),
        ("/v1/chat/completions", '{"messages": [{"role": "user", "content": "x", "more": %s}]}'),
        ("/v1/chat/completions", '{"messages": [{"role": "user", "content": "x"}], "tools": [%s]}'),
        ("/v1/chat/completions", '{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", '
         '"function": {"name": "f", "parameters": %s}}]}'),
        ("/v1/chat/completions", '{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": %s}}'),
        ("/v1/internal/encode", "%s"),
        ("/v1/internal/model/load", '{"model_name": "x", "args": {"a": %s}}'),
    ):  # fmt: skip
        got = api.http.post(path, content=body % deep, headers={"Content-Type": "application/json"})
        assert got.status_code < 500, (path, body, got.text[:300])
        assert got.status_code == 200 or got.json()["error"]["message"]


def test_what_nobody_foresaw_is_an_answer_like_any_other(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start("--cors-origin", "https://chat.example")

    def broken() -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(client.app.generator, "session", broken)
    got = client.post("/v1/internal/encode", {"text": "x"}, headers={"Origin": "https://chat.example"})
    assert got.status_code == 500
    assert got.json()["error"]["code"] == "internal_error"
    assert "secret" not in got.text
    assert got.headers["x-request-id"]
    assert got.headers["access-control-allow-origin"] == "https://chat.example"
    assert got.headers.get("connection") != "close"


@pytest.mark.parametrize("key", ["schlüssel", "a\nb", " a"])
@pytest.mark.parametrize("flag", ["api", "admin"])
def test_a_key_that_cannot_be_sent_is_refused_at_the_start(flag: str, key: str) -> None:
    with pytest.raises(InvalidInput, match=f"--{flag}-key"):
        ApiKeys(**{flag: key})


def test_a_proxy_s_own_login_does_not_hide_the_key(start: Start) -> None:
    client = start("--api-key", "sesame")
    basic = {"Authorization": "Basic dXNlcjpwYXNz"}
    assert client.get("/v1/models", headers={**basic, "X-API-Key": "sesame"}).status_code == 200
    assert client.get("/v1/models", headers={**basic, "X-API-Key": "wrong"}).status_code == 401
    assert client.get("/v1/models", headers={"Authorization": "sesame"}).status_code == 200


def test_the_log_has_ids_and_no_secrets(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    client = start("--api-key", "sesame", key="sesame")
    with caplog.at_level(logging.INFO, logger="modules"):
        got = client.post("/v1/completions?key=sesame", {"prompt": "a private matter"})
        client.post("/v1/completions", ASK, headers={"Authorization": "Bearer sesame2"})
        end = time.monotonic() + 2  # the line is written after the response
        while "401" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
    assert got.headers["x-request-id"] in caplog.text
    assert "POST /v1/completions: 200" in caplog.text
    assert "POST /v1/completions: 401" in caplog.text
    assert "sesame" not in caplog.text
    assert "private" not in caplog.text


def test_verbose_prints_prompts(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="modules"):
        api.post("/v1/completions", {"prompt": "a private matter"})
    assert "a private matter" in caplog.text


def test_listening_without_a_key_warns_loudly() -> None:
    def said(**flags: Any) -> str:
        return " ".join(openness_warnings(ServerFlags(**flags)))

    assert "WARNING" in said(api=True, listen=True)
    assert "WARNING" in said(nowebui=True, listen_host="192.168.0.7")
    assert "WARNING" not in said(api=True, listen=True, api_key="k")
    assert "WARNING" not in said(api=True)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\x00b", "x" * 5000, "C:\\boot.ini"])
def test_no_name_from_a_request_leaves_its_folder(api: Client, name: str) -> None:
    chat = {"messages": [{"role": "user", "content": "x"}]}
    for path, body in (
        ("/v1/completions", {**ASK, "preset": name}),
        ("/v1/chat/completions", {**chat, "mode": "chat", "character": name}),
        ("/v1/chat/completions", {**chat, "instruction_template": name}),
        ("/v1/internal/model/load", {"model_name": name}),
        ("/v1/internal/lora/load", {"lora_names": [name]}),
    ):
        got = api.post(path, body)
        assert got.status_code in (400, 404), (path, got.text)
        assert "root:" not in got.text
