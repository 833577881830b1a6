"""What stops a server is told before a model begins to load, and alone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
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
        ({"ssl_keyfile": __file__}, "--ssl-certfile is missing"),
        ({"ssl_certfile": __file__}, "--ssl-keyfile is missing"),
        ({"gradio_auth": "a:1, b:2,a:3"}, "--gradio-auth has a more than once"),
        ({"gradio_auth": "nobody"}, "--gradio-auth must be user:password"),
        ({"gradio_auth_path": "/no/file"}, "--gradio-auth-path: /no/file cannot be read"),
        ({"api": True, "api_key": "a b "}, "The key of --api-key contains characters"),
        ({"api": True, "admin_key": "ключ"}, "The key of --admin-key contains characters"),
        ({"api": True, "api_port": 5000, "listen_port": 5000}, "cannot both use port 5000"),
        ({"api": True, "listen_port": 5000}, "cannot both use port 5000"),
        ({"listen": True, "listen_host": "192.0.2.1", "listen_port": 7999}, "This machine has no address 192.0.2.1"),
        ({"listen": True, "listen_host": "192.0.2.1"}, "This machine has no address 192.0.2.1"),
        ({"listen": True, "listen_host": "no.host.invalid", "listen_port": 7999}, "no address no.host.invalid"),
        ({"listen": True, "listen_host": "2001:db8::1", "api": True, "api_port": 5001}, "no address 2001:db8::1"),
    ],
)
def test_what_would_stop_a_server_is_refused(taken: int, flags: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_serving(ServerFlags(**{name: taken if value == 0 else value for name, value in flags.items()}))


def pair(folder: Path, name: str) -> dict[str, str]:
    """A key and its certificate."""
    files = {"ssl_keyfile": str(folder / f"{name}.key"), "ssl_certfile": str(folder / f"{name}.pem")}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         f"/CN={name}", "-keyout", files["ssl_keyfile"], "-out", files["ssl_certfile"]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def encrypted(folder: Path) -> dict[str, str]:
    files = pair(folder, "a")
    key = folder / "encrypted.key"
    command = ["openssl", "pkey", "-aes128", "-passout", "pass:x", "-in", files["ssl_keyfile"], "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return {**files, "ssl_keyfile": str(key)}


def junk(folder: Path) -> dict[str, str]:
    (folder / "junk.pem").write_text("no certificate\n", "utf-8")
    return {**pair(folder, "a"), "ssl_certfile": str(folder / "junk.pem")}


def swapped(folder: Path) -> dict[str, str]:
    files = pair(folder, "a")
    return {"ssl_keyfile": files["ssl_certfile"], "ssl_certfile": files["ssl_keyfile"]}


def mixed(folder: Path) -> dict[str, str]:
    return {**pair(folder, "a"), "ssl_keyfile": pair(folder, "b")["ssl_keyfile"]}


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (mixed, "not a certificate and its key in PEM format"),
        (junk, "not a certificate and its key in PEM format"),
        (swapped, "not a certificate and its key in PEM format"),
        (encrypted, "is encrypted"),
    ],
)
def test_a_certificate_that_no_server_can_use_is_refused(
    tmp_path: Path, make: Callable[[Path], dict[str, str]], told: str
) -> None:
    check_serving(ServerFlags.model_validate(pair(tmp_path, "good")))
    with pytest.raises(UserError, match=told):
        check_serving(ServerFlags.model_validate(make(tmp_path)))


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
