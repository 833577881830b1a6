"""Putting the page on the network: address, port, passwords, certificates. Gradio's own server does the work.

Nothing is reported to anyone: analytics, the version check, run history and monitoring are off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware

from modules.app import App
from modules.config.leftovers import clear_old
from modules.config.rights import accounts
from modules.config.server_flags import ServerFlags
from modules.ui import extension_blocks, theme
from modules.ui.events import HANDLERS
from modules.ui.head import Head
from modules.ui.page import build_page
from modules.web import port
from modules.web.bodies import Bodies
from modules.web.connections import watch_over
from modules.web.faults import Faults
from modules.web.guard import Guard
from modules.web.logins import LoginLimit, StrictCookies
from modules.web.visitors import Visitors


def serve(app: App) -> str:
    """Start serving the page in a thread of its own. Returns its address. Raises: UserError."""
    flags = app.launch.server
    number = free_port(flags)
    passwords = accounts(flags)
    visitors = Visitors(flags.cors_origin, public=flags.share)
    passing = app.paths.cache / "page"  # uploads, and files that are handed out
    os.environ["GRADIO_TEMP_DIR"] = str(passing)
    clear_old(passing)
    page = build_page(app)
    page.queue(default_concurrency_limit=None, api_open=False)
    _reach_ourselves(flags.host)
    page.launch(
        server_name=flags.host,
        server_port=number,
        share=flags.share,
        inbrowser=flags.auto_launch and "WEBUI_RESTARTED" not in os.environ,
        auth=passwords,
        prevent_thread_lock=True,
        quiet=True,
        max_threads=HANDLERS,
        footer_links=[],
        max_file_size=flags.max_upload << 20,
        run_history=False,
        enable_monitoring=False,
        theme=theme.theme(),
        app_kwargs={
            "lifespan": _clearing(passing),
            "middleware": [
                Middleware(Guard, visitors=visitors, credentials=True),
                Middleware(Head, html=theme.head(dark=app.settings.dark_theme) + extension_blocks.head(app)),
            ],
        },
        **_certificates(flags),
    )
    _stand_before(page.server, visitors, flags)
    watch_over(page.server)
    return flags.changed(listen_port=number).address


def _clearing(folder: Path) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """While the page is served: what is old goes, once an hour. Gradio forgets uploads that broke off."""

    async def clear() -> None:
        while True:
            await asyncio.sleep(3600)
            await asyncio.to_thread(clear_old, folder)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(clear())
        yield
        task.cancel()

    return lifespan


def _stand_before(server: Any, visitors: Visitors, flags: ServerFlags) -> None:
    """Put what turns visitors away before all of gradio, whose own CORS rules would answer first otherwise.

    They let any page in where the host is not localhost. Until here, the inner Guard has refused it the answers.
    """
    within = Faults(Bodies(LoginLimit(server.config.loaded_app), flags.max_upload, "--max-upload"))
    server.config.loaded_app = Guard(StrictCookies(within), visitors, credentials=True)


def free_port(flags: ServerFlags) -> int:
    """The page's port. Raises: Unavailable."""
    fixed = "listen_port" in flags.model_fields_set
    return port.free_port(flags.host, flags.listen_port, what="page", flag="--listen-port", fixed=fixed)


def _certificates(flags: ServerFlags) -> dict[str, Any]:
    if not (flags.ssl_keyfile and flags.ssl_certfile):
        return {}
    return {"ssl_keyfile": flags.ssl_keyfile, "ssl_certfile": flags.ssl_certfile, "ssl_verify": False}


def _reach_ourselves(host: str) -> None:
    """Gradio asks its own server whether it is up: that must not go through the user's proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [each for each in os.environ.get(name, "").split(",") if each]
        wanted = [each for each in ("127.0.0.1", "localhost", host) if each not in known]
        os.environ[name] = ",".join([*known, *wanted])
