"""What stops a server is told before a model begins to load, and alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import UserError
from modules.config.server_flags import ServerFlags
from modules.web.serving import api_port, check_serving, page_port
from tests.conftest import ROOT
from tests.zoo import ggufs


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"api": True, "api_port": 0}, "choose another port with --api-port"),
        ({"listen_port": 0}, "choose another port with --listen-port"),
        ({"ssl_keyfile": "no.key", "ssl_certfile": "no.pem"}, "HTTPS file not found: no.key"),
        ({"gradio_auth": "nobody"}, "--gradio-auth must be user:password"),
        ({"gradio_auth_path": "/no/file"}, "--gradio-auth-path: /no/file cannot be read"),
        ({"api": True, "api_key": "a b "}, "The key of --api-key contains characters"),
        ({"api": True, "admin_key": "ключ"}, "The key of --admin-key contains characters"),
    ],
)
def test_what_would_stop_a_server_is_refused(taken: int, flags: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_serving(ServerFlags(**{name: taken if value == 0 else value for name, value in flags.items()}))


def test_only_what_is_served_counts(taken: int) -> None:
    check_serving(ServerFlags(api_port=taken, api_key=" "))
    check_serving(ServerFlags(nowebui=True, listen_port=taken, gradio_auth="nobody"))


def test_a_taken_usual_port_gives_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.web.port.is_free", lambda host, port: port not in (5000, 7860))
    check_serving(ServerFlags(api=True))
    assert (page_port(ServerFlags()), api_port(ServerFlags())) == (7861, 5001)


@pytest.mark.parametrize("flags", [("--api", "--api-port"), ("--listen-port",)])
def test_the_program_says_so_before_it_loads_anything(taken: int, tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "models").mkdir()
    ggufs.make("llama", tmp_path / "models")
    ran = subprocess.run(
        [sys.executable, "server.py", "--user-data-dir", str(tmp_path), *flags, str(taken)], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert (len(ran.stderr.splitlines()), ran.stderr.startswith(f"Port {taken} is already in use.")) == (1, True)
    assert "oading" not in ran.stdout
