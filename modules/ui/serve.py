"""Putting the page on the network: address, port, passwords, certificates. Gradio's own server does the work.

Nothing is reported to anyone: analytics, the version check, run history and monitoring are off.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware

from errors import InvalidInput, Unavailable
from modules.app import App
from modules.config.server_flags import ServerFlags
from modules.ui import theme
from modules.ui.events import HANDLERS
from modules.ui.head import Head
from modules.ui.page import build_page

log = logging.getLogger(__name__)

#: How many further ports are tried when the usual one is taken and no other was asked for.
_TRIES = 20


def serve(app: App) -> str:
    """Start serving the page in a thread of its own. Returns its address. Raises: UserError."""
    flags = app.launch.server
    port = free_port(flags)
    page = build_page(app)
    page.queue(default_concurrency_limit=None, api_open=False)
    _reach_ourselves(flags.host)
    page.launch(
        server_name=flags.host,
        server_port=port,
        share=flags.share,
        inbrowser=flags.auto_launch,
        auth=accounts(flags),
        prevent_thread_lock=True,
        quiet=True,
        max_threads=HANDLERS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        theme=theme.theme(),
        app_kwargs={"middleware": [Middleware(Head, html=theme.head(dark=app.settings.dark_theme))]},
        **_certificates(flags),
    )
    return flags.changed(listen_port=port).address


def free_port(flags: ServerFlags) -> int:
    """The port that was asked for; where none was, the next free one after the usual. Raises: Unavailable."""
    asked = flags.listen_port
    if _is_free(flags.host, asked):
        return asked
    if "listen_port" in flags.model_fields_set:
        raise Unavailable(
            f"Port {asked} is taken by another program. End that one, or give --listen-port another number."
        )
    for port in range(asked + 1, asked + 1 + _TRIES):
        if _is_free(flags.host, port):
            log.warning("Port %d is taken by another program, so the page is on port %d.", asked, port)
            return port
    raise Unavailable(f"The ports {asked} to {asked + _TRIES} are all taken. Give --listen-port another number.")


def accounts(flags: ServerFlags) -> list[tuple[str, str]] | None:
    """Who may open the page. Raises: InvalidInput, for a file or a pair that cannot be read."""
    words = flags.gradio_auth
    if flags.gradio_auth_path:
        try:
            words += "," + Path(flags.gradio_auth_path).expanduser().read_text(encoding="utf-8").replace("\n", ",")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"--gradio-auth-path: {flags.gradio_auth_path} cannot be read ({error}).") from None
    pairs = [each.strip() for each in words.split(",") if each.strip()]
    for pair in pairs:
        user, colon, password = pair.partition(":")
        if not (user.strip() and colon and password.strip()):
            raise InvalidInput("--gradio-auth wants user:password, with commas between several.")
    return [(user.strip(), password.strip()) for user, _, password in (p.partition(":") for p in pairs)] or None


def _certificates(flags: ServerFlags) -> dict[str, Any]:
    if not (flags.ssl_keyfile and flags.ssl_certfile):
        return {}
    return {"ssl_keyfile": flags.ssl_keyfile, "ssl_certfile": flags.ssl_certfile, "ssl_verify": False}


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":  # on Windows it would let two programs share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _reach_ourselves(host: str) -> None:
    """Gradio asks its own server whether it is up: that must not go through the user's proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [each for each in os.environ.get(name, "").split(",") if each]
        wanted = [each for each in ("127.0.0.1", "localhost", host) if each not in known]
        os.environ[name] = ",".join([*known, *wanted])
