"""Cookies that only our own pages send, and passwords that cannot be guessed quickly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modules.web.logins import (
    LoginAttempts,
    LoginLimitMiddleware,
    StrictCookieMiddleware,
    login_account,
    make_strict,
    network_of,
)
from tests.in_thread import in_thread


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    "cookie",
    [
        b"a=b", b"a=b; Path=/; SameSite=none; Secure; HttpOnly", b"a=b;samesite=Lax", b"a=b; SAMESITE=None;secure",
        b"a=b; Secure", b"a=b; SameSite=Strict; HttpOnly", b'a="secure; x"', b"a=b; SameSite",
    ],
)  # fmt: skip
def test_a_cookie_is_strict_once(cookie: bytes, secure: bool) -> None:
    parts = [each.strip().lower() for each in make_strict(cookie, secure=secure).split(b";")]
    assert [each for each in parts if each.startswith(b"samesite=")] == [b"samesite=strict"]
    assert parts.count(b"secure") <= 1
    assert (b"secure" in parts) or not secure
    assert (b"httponly" in parts) == (b"HttpOnly" in cookie)


def test_all_cookies_of_an_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Set-Cookie", b"a=1; SameSite=None"), (b"set-cookie", b"b=2"), (b"x-other", b"samesite=none")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    in_thread(StrictCookieMiddleware(app)({"type": "http", "scheme": "https"}, None, send))  # type: ignore[arg-type]
    assert [value for _, value in sent[0]["headers"]] == [
        b"a=1; Secure; SameSite=Strict", b"b=2; Secure; SameSite=Strict", b"samesite=none",
    ]  # fmt: skip


def test_each_further_guess_doubles_the_wait() -> None:
    now = [1000.0]
    guesses = LoginAttempts(lambda: now[0])
    for _ in range(LoginAttempts.FREE):
        assert guesses.wait("a") == 0
        guesses.begin("a")
    waits = []
    for _ in range(12):
        waits.append(guesses.wait("a"))
        now[0] += waits[-1]
        assert guesses.wait("a") == 0
        guesses.begin("a")
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]
    assert guesses.wait("b") == 0
    now[0] += LoginAttempts.FORGOTTEN + 1
    assert guesses.wait("a") == 0
    guesses.begin("a")
    assert guesses.wait("a") == 0


def test_the_right_one_clears_the_count_and_the_table_is_bounded() -> None:
    guesses = LoginAttempts()
    for _ in range(LoginAttempts.FREE):
        guesses.begin("a")
    assert guesses.wait("a") > 0
    guesses.right("a")
    assert guesses.wait("a") == 0
    for number in range(LoginAttempts.MOST_CLIENTS + 100):
        guesses.begin(str(number))
    assert len(guesses._wrong) == LoginAttempts.MOST_CLIENTS


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.2.3.4", "1.2.3.5", False),
        ("::ffff:1.2.3.4", "1.2.3.4", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("?", "", False),
    ],
)
def test_whose_guesses_count_together(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


async def nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=X"


def multipart(name: str) -> bytes:
    part = '--X\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return (part.format("username", name) + part.format("password", "x") + "--X--\r\n").encode()


@pytest.mark.parametrize(
    ("kind", "body", "name"),
    [
        (FORM, b"username=me&password=x", "me"), (FORM, b"password=x&username=+me%20", "me"), (FORM, b"", ""),
        (FORM, b"user%6eame=%6de", "me"), (FORM, b"username=bob&username=me", "me"),
        (FORM, "username=\u00fc".encode(), "\u00fc"),
        (FORM + "; charset=utf-8", b"username=me", "me"), (MULTIPART, multipart("me"), "me"),
        (MULTIPART, multipart("me")[:20], ""), ("multipart/form-data", multipart("me"), ""), ("", b"username=me", ""),
        ("text/plain", b"username=me", ""), (FORM, b"username=" + b"x" * 1000, "x" * 200), (FORM, b"\xff=\xff", ""),
    ],
)  # fmt: skip
def test_whose_account_is_tried(kind: str, body: bytes, name: str) -> None:
    assert login_account(kind, body) == name


class Login:
    """A login of two accounts behind the limit, as Gradio's is."""

    PASSWORDS = {"me": "right", "bob": "his"}

    def __init__(self) -> None:
        self.now = 1000.0
        self.limit = LoginLimitMiddleware(self.app, LoginAttempts(lambda: self.now))
        self.reached: list[str] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        given = dict(pair.split("=") for pair in (await receive())["body"].decode().split("&"))
        self.reached.append(given["username"])
        right = self.PASSWORDS.get(given["username"]) == given["password"]
        await send({"type": "http.response.start", "status": 200 if right else 400, "headers": []})

    def post(self, name: str, password: str, client: str = "1.2.3.4") -> int:
        codes: list[int] = []

        async def send(message: Any) -> None:
            if "status" in message:
                codes.append(message["status"])

        body = f"username={name}&password={password}".encode()
        pieces = [
            {"type": "http.request", "body": body[:9], "more_body": True},
            {"type": "http.request", "body": body[9:]},
        ]

        async def receive() -> Any:
            return pieces.pop(0)

        scope = {"type": "http", "method": "POST", "path": "/login", "client": (client, 1),
                 "headers": [(b"content-type", FORM.encode())]}  # fmt: skip
        in_thread(self.limit(scope, receive, send))
        return codes[0]


@pytest.mark.parametrize("wrong", [1, 2, 4])
@pytest.mark.parametrize("moves", [False, True], ids=["one address", "many addresses"])
def test_a_login_of_one_s_own_clears_no_guesses_at_another_s(wrong: int, moves: bool) -> None:
    login = Login()
    for round in range(60):
        client = f"10.0.0.{round}" if moves else "1.2.3.4"
        for _ in range(wrong):
            login.post("me", "x", client)
        login.post("bob", "his", client)
    most = LoginAttempts.FREE_OF_AN_ACCOUNT if moves else LoginAttempts.FREE
    assert login.reached.count("me") == most
    login.now += LoginAttempts.LONGEST_WAIT + 1
    assert login.post("me", "right") == 200


def test_one_s_own_wrong_guesses_are_cleared_by_the_right_one() -> None:
    login = Login()
    for _ in range(10):
        for name, password in Login.PASSWORDS.items():
            assert [login.post(name, "x"), login.post(name, "y"), login.post(name, password)] == [400, 400, 200]


def test_many_names_fill_no_memory() -> None:
    guesses = LoginAttempts()
    for number in range(10_000):
        guesses.begin("a", f"name {number}")
    assert len(guesses._wrong["a"].under) <= LoginAttempts.MOST_NAMES + 1
    assert len(guesses._at) <= LoginAttempts.MOST_CLIENTS
    assert guesses.wait("a") > 0


def test_a_huge_login_is_refused() -> None:
    async def run() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

        scope = {"type": "http", "method": "POST", "path": "/login", "client": ("a", 1), "headers": []}
        await LoginLimitMiddleware(Login().app)(scope, receive, send)
        return sent

    assert in_thread(run())[0]["status"] == 413


def test_guesses_at_the_same_time_count_each() -> None:
    tried = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 400, "headers": []})

    async def run() -> list[int]:
        limit = LoginLimitMiddleware(app)
        codes: list[int] = []

        async def send(message: Any) -> None:
            if "status" in message:
                codes.append(message["status"])

        for_each = {"type": "http", "method": "POST", "path": "/login/", "client": ("1.2.3.4", 1), "headers": []}
        await asyncio.gather(*(limit(dict(for_each), nothing, send) for _ in range(50)))
        return codes

    codes = in_thread(run())
    assert tried == codes.count(400) == LoginAttempts.FREE
    assert codes.count(429) == 50 - LoginAttempts.FREE
