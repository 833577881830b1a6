"""The page's server turns strangers' pages away, and still serves its own."""

from __future__ import annotations

import httpx

from tests.ui.conftest import Served


def test_pages_of_other_origins_and_other_host_names_are_refused(served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        own = served.url.rstrip("/")
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"Origin": own}).status_code == 200
        for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/queue/join")):
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
                assert client.request(method, path, headers={"Origin": origin}).status_code == 403
            assert client.request(method, path, headers={"Host": "evil.example"}).status_code == 400
