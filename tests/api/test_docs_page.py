"""The API's documentation page is self-contained: it loads nothing, runs no scripts, and lists every route and
field.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from modules.api import docs_page
from tests.api.conftest import Client


def test_it_asks_nobody_and_runs_nothing(api: Client) -> None:
    got = api.get("/docs")
    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/html")
    policy = dict(each.strip().partition(" ")[::2] for each in got.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert not {name for name in policy if name.endswith("-src")} - {"default-src", "style-src"}
    assert "<script" not in got.text
    assert not re.search(r"(?:\b(?:src|href)\s*=|\burl\(|@import)\s*['\"]?(?:https?:)?//", got.text)
    assert api.get("/redoc").status_code == 404


def test_every_route_and_field_is_on_it(api: Client) -> None:
    described = api.get("/openapi.json").json()
    text = html.unescape(api.get("/docs").text)
    for path in described["paths"]:
        assert path in text
    for name, schema in described["components"]["schemas"].items():
        if name.endswith(("Request", "Body", "Fields")):
            for each in schema["properties"]:
                assert f">{each}<" in text or f".{each}<" in text, (name, each)


def test_what_a_description_says_is_text() -> None:
    said = docs_page.render_docs_page(
        {
            "info": {"title": "<script>x</script>", "description": "<img src=x>"},
            "paths": {"/<b>": {"get": {"tags": ["<i>"], "description": "<u>", "parameters": [{"name": "<s>"}]}}},
        },
        "http://x/<script>",
    )
    assert not re.search(r"<(script|img|u|s|i)\b", said)


def test_a_host_name_is_text_too(api: Client) -> None:
    got = api.get("/docs", headers={"Host": '127.0.0.1:1"><script>alert(1)</script>'})
    assert "<script" not in got.text


def test_with_a_key_it_wants_the_key(start: Callable[..., Client]) -> None:
    client = start("--api-key", "k")
    assert client.get("/docs").status_code == 401
    assert client.get("/docs", headers={"Authorization": "Bearer k"}).status_code == 200
