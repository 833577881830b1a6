"""The page's server refuses other sites' pages, with and without a password, and serves its own."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from playwright.sync_api import Browser, expect

from modules.config.permissions import Permissions
from tests.ui.conftest import Served, new_root, start

ROUTES = (
    ("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("POST", "/login"),
    ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/app_id"), ("OPTIONS", "/config"),
)  # fmt: skip
FOREIGN = ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost:1", "https://x.gradio.live")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, demo_model_path: Path) -> Iterator[Served]:
    """With accounts, and small uploads alone."""
    root = new_root(tmp_path_factory.mktemp("locked"), demo_model_path)
    with mock.patch.dict(os.environ):  # gradio's folder for uploads is one for the process
        served = start(root, "--gradio-auth", "boss:secret,guest:word", "--max-upload", "1")
        yield served
        served.app.close()


@contextlib.contextmanager
def visitor(served: Served, name: str = "", password: str = "") -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        if name:
            assert client.post("/login", data={"username": name, "password": password}).status_code == 200
        yield client


def test_the_document_is_compressed_and_sent_once(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        plain = client.get("/", headers={"Accept-Encoding": "identity"})
        packed = client.get("/", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content
        assert int(packed.headers["content-length"]) < len(plain.content) / 8
        again = client.get("/", headers={"If-None-Match": packed.headers["etag"], "Accept-Encoding": "gzip"})
        assert (again.status_code, again.content) == (304, b"")
        assert "content-security-policy" in again.headers
        assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def check_origins_and_hosts(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Origin": own}).status_code == 200
    for method, path in ROUTES:
        for origin in FOREIGN:
            for more in ({}, {"Access-Control-Request-Method": "POST"}):
                got = client.request(method, path, headers={"Origin": origin, **more})
                assert got.status_code == 403, (method, path, origin)
                assert not [name for name in got.headers if name.startswith("access-control-")]
        for host in ("evil.example", "127.0.0.1.evil.example", "x.gradio.live"):
            assert client.request(method, path, headers={"Host": host}).status_code == 400


def test_pages_of_other_origins_and_other_host_names_are_refused(served: Served) -> None:
    with visitor(served) as client:
        check_origins_and_hosts(client)


def test_a_password_takes_nothing_of_that_away(locked: Served) -> None:
    with visitor(locked, "boss", "secret") as client:
        check_origins_and_hosts(client)
        assert client.get("/config").status_code == 200
    with visitor(locked) as client:
        check_origins_and_hosts(client)
        assert client.get("/config").status_code == 401


def test_no_origin_that_was_not_named_is_echoed(served: Served) -> None:
    with visitor(served) as client:  # at an address that is not localhost, gradio by itself echoes every one
        for host in ("192.168.0.7:7860", "127.0.0.2"):
            got = client.get("/config", headers={"Host": host, "Origin": f"http://{host}"})
            assert got.status_code == 200
            assert got.headers["access-control-allow-origin"] == f"http://{host}"
            assert "access-control-allow-credentials" not in got.headers
            assert client.get("/config", headers={"Host": host, "Origin": "http://evil.example"}).status_code == 403


def test_the_login_s_cookie_is_for_our_own_pages(locked: Served) -> None:
    with visitor(locked) as client:
        got = client.post("/login", data={"username": "boss", "password": "secret"})
        cookies = got.headers.get_list("set-cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            parts = [each.strip().lower() for each in cookie.split(";")]
            assert [each for each in parts if each.startswith("samesite")] == ["samesite=strict"]
            assert "httponly" in parts
        for cookie in client.get("/logout", follow_redirects=False).headers.get_list("set-cookie"):
            assert "samesite=strict" in cookie.lower()


def test_passwords_cannot_be_guessed_at_speed(tmp_path: Path, locked: Served) -> None:
    with visitor(locked) as client:
        codes = [client.post("/login", data={"username": "boss", "password": str(i)}).status_code for i in range(30)]
        assert codes[:5] == [400] * 5
        assert codes.count(400) < 10
        got = client.post("/login/", data={"username": "boss", "password": "secret"})
        assert got.status_code == 429
        assert "Too many failed logins" in got.json()["error"]["message"]
        assert int(got.headers["retry-after"]) > 0
    _forget(locked)


def _forget(served: Served) -> None:
    """Let the other tests log in: they come from the same address."""
    from modules.web.logins import LoginAttempts

    for each in gc.get_objects():
        if type(each) is LoginAttempts:  # isinstance would ask strangers' objects for their class, and wake warnings
            each._wrong.clear()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # gradio leaves what broke off to Python
def test_half_a_body_and_a_large_one_are_refused(locked: Served) -> None:
    with visitor(locked, "boss", "secret") as client:
        big = {"files": ("x.txt", b"x" * (2 << 20))}
        got = client.post("/gradio_api/upload", files=big)
        assert got.status_code == 413
        assert "--max-upload" in got.text

        def pieces() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
            for _ in range(40):
                yield b"x" * (1 << 16)

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert client.post("/gradio_api/upload", content=pieces(), headers=headers).status_code == 413
        small = client.post("/gradio_api/upload", files={"files": ("x.txt", b"x" * 1000)})
        assert small.status_code == 200
        assert Path(small.json()[0]).is_relative_to(locked.root / "cache")
    host, port = locked.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as half:
        half.sendall(b"POST /gradio_api/queue/join HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{")
        with visitor(locked) as client:
            assert client.get("/").status_code == 200
    gc.collect()  # now, and not in somebody else's test


def press(client: httpx.Client, button: str, data: list[Any]) -> str:
    """What a page sends when a button is pressed, whether it shows that button or not; what comes back."""
    config = client.get("/config").json()
    id = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == button)
    made = next(each for each in config["dependencies"] if [id, "click"] in each["targets"])
    session = uuid.uuid4().hex
    body = {"data": data, "fn_index": made["id"], "session_hash": session, "trigger_id": id}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    said = ""
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
        for line in events.iter_lines():
            said += line
            if line.startswith("data:") and json.loads(line[5:]).get("msg") in ("process_completed", "close_stream"):
                break
    return said


def test_a_crafted_event_changes_no_flags_where_others_can_open_the_page(locked: Served) -> None:
    session, file = locked.app.session, locked.root / "CMD_FLAGS.txt"
    before = session.rights
    events = (("flags-save", ["--verbose"]), ("apply-restart", [["verbose"], [], True, None, None]))
    try:
        session.rights = Permissions(is_open=True, names=("boss", "guest"))
        with visitor(locked, "guest", "word") as guest:
            for button, data in events:
                assert "only the administrator" in press(guest, button, data)
            assert not file.exists()
            assert not session.asked.is_set()
        with visitor(locked, "boss", "secret") as boss:
            assert "allows code to run" in press(boss, "flags-save", ["--trust-remote-code"])
            assert not file.exists()
            assert "CMD_FLAGS.txt saved" in press(boss, "flags-save", ["--verbose"])
            assert file.read_text() == "--verbose\n"
        session.rights = Permissions()  # on this machine alone, and nobody is told apart
        with visitor(locked, "guest", "word") as guest:
            assert "CMD_FLAGS.txt saved" in press(guest, "flags-save", ["--verbose"])
    finally:
        session.rights = before
        file.unlink(missing_ok=True)


def test_the_tab_says_why_it_is_read_only(locked: Served, chromium: Browser) -> None:
    session = locked.app.session
    before = session.rights
    (locked.root / "CMD_FLAGS.txt").write_text("--api-key hidden\n")
    session.rights = Permissions(is_open=True, names=("boss", "guest"))
    try:
        for name, password, may in (("guest", "word", False), ("boss", "secret", True)):
            context = chromium.new_context()
            page = context.new_page()
            page.goto(locked.url)
            page.locator("input[type=text], textarea").first.fill(name)
            page.locator("input[type=password]").fill(password)
            page.locator("button").first.click()
            expect(page.locator("#tab-session-button")).to_be_visible()
            page.locator("#tab-session-button").click()
            page.locator("#flags-file button").first.click()
            note = page.locator("#rights-note")
            if may:
                expect(page.locator("#apply-restart")).to_be_enabled()
                expect(note).not_to_contain_text("administrator")
                expect(page.locator("#flags-text textarea")).to_have_value("--api-key hidden\n")
            else:
                expect(note).to_contain_text("only the administrator may change flags")
                expect(page.locator("#apply-restart")).to_be_disabled()
                expect(page.locator("#flags-text textarea")).to_have_value("")
                page.screenshot(path="/tmp/rights.png")
            context.close()
    finally:
        session.rights = before
        (locked.root / "CMD_FLAGS.txt").unlink()
