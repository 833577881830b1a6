"""A request that makes the framework fail causes a line in the log, and ends properly."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from modules.web.error_middleware import ErrorMiddleware
from modules.web.request_bodies import BodyMiddleware
from tests.in_thread import in_thread

START = {"type": "http.response.start", "status": 200, "headers": []}


def body(more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"x", "more_body": more}


@pytest.mark.parametrize(
    ("sent", "statuses", "ended"),
    [
        ([], [500], True),
        ([START], [200], True),
        ([START, body(True)], [200], True),
        ([START, body(False)], [200], True),
    ],
)
def test_an_error_ends_its_own_request_with_one_line(
    caplog: pytest.LogCaptureFixture, sent: list[dict[str, Any]], statuses: list[int], ended: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sent:
            await send(message)
        raise KeyError("session\nnot found")

    answers: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answers.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/x\n" * 1000, "headers": []}
    with caplog.at_level(logging.INFO):
        in_thread(ErrorMiddleware(BodyMiddleware(app, 1, "--max-upload"))(scope, receive, send))
    assert [each["status"] for each in answers if "status" in each] == statuses
    assert [each["type"] for each in answers].count("http.response.start") == 1
    last = [each for each in answers if each["type"] == "http.response.body"]
    assert (not last[-1].get("more_body", False)) is ended
    assert len([each for each in last if not each.get("more_body", False)]) == 1
    assert len(caplog.records) == 1
    line = caplog.records[0].getMessage()
    assert "\n" not in line
    assert len(line) < 700
    assert "KeyError" in line
    assert not caplog.records[0].exc_info
