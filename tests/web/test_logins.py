"""Cookies that stay with our own pages, and passwords that take their time to be guessed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modules.web.logins import Guesses, LoginLimit, StrictCookies, network_of, strict


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(
    "cookie",
    [
        b"a=b", b"a=b; Path=/; SameSite=none; Secure; HttpOnly", b"a=b;samesite=Lax", b"a=b; SAMESITE=None;secure",
        b"a=b; Secure", b"a=b; SameSite=Strict; HttpOnly", b'a="secure; x"', b"a=b; SameSite",
    ],
)  # fmt: skip
def test_a_cookie_is_strict_once(cookie: bytes, secure: bool) -> None:
    parts = [each.strip().lower() for each in strict(cookie, secure=secure).split(b";")]
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

    asyncio.run(StrictCookies(app)({"type": "http", "scheme": "https"}, None, send))  # type: ignore[arg-type]
    assert [value for _, value in sent[0]["headers"]] == [
        b"a=1; Secure; SameSite=Strict", b"b=2; Secure; SameSite=Strict", b"samesite=none",
    ]  # fmt: skip


def test_each_further_guess_doubles_the_wait() -> None:
    now = [1000.0]
    guesses = Guesses(lambda: now[0])
    for _ in range(Guesses.FREE):
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
    now[0] += Guesses.FORGOTTEN + 1
    assert guesses.wait("a") == 0
    guesses.begin("a")
    assert guesses.wait("a") == 0


def test_the_right_one_clears_the_count_and_the_table_is_bounded() -> None:
    guesses = Guesses()
    for _ in range(Guesses.FREE):
        guesses.begin("a")
    assert guesses.wait("a") > 0
    guesses.right("a")
    assert guesses.wait("a") == 0
    for number in range(Guesses.MOST_CLIENTS + 100):
        guesses.begin(str(number))
    assert len(guesses._wrong) == Guesses.MOST_CLIENTS


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


def test_guesses_at_the_same_time_count_each() -> None:
    tried = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 400, "headers": []})

    async def run() -> list[int]:
        limit = LoginLimit(app)
        codes: list[int] = []

        async def send(message: Any) -> None:
            if "status" in message:
                codes.append(message["status"])

        for_each = {"type": "http", "method": "POST", "path": "/login/", "client": ("1.2.3.4", 1)}
        await asyncio.gather(*(limit(dict(for_each), None, send) for _ in range(50)))  # type: ignore[arg-type]
        return codes

    codes = asyncio.run(run())
    assert tried == codes.count(400) == Guesses.FREE
    assert codes.count(429) == 50 - Guesses.FREE
