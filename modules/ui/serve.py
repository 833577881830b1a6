"""Serves the page on the network: address, port, passwords, certificates. Gradio's own server does the work.

No data is sent to anyone: analytics, the version check, run history and monitoring are off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gradio import blocks
from starlette.middleware import Middleware

from modules.app import App
from modules.config.cleanup import delete_old_files
from modules.config.permissions import read_accounts
from modules.config.server_flags import ServerFlags
from modules.ui import theme
from modules.ui.app_window import open_window
from modules.ui.gradio_scripts import GradioScriptsMiddleware
from modules.ui.head import HeadMiddleware
from modules.ui.page import build_page
from modules.ui.parts.events import HANDLERS
from modules.ui.session import extension_blocks
from modules.ui.texts import load_texts
from modules.web.compression import EventStreamMiddleware
from modules.web.connections import limit_connections
from modules.web.error_middleware import ErrorMiddleware
from modules.web.logins import LoginLimitMiddleware, StrictCookieMiddleware
from modules.web.origin_middleware import OriginMiddleware
from modules.web.origins import OriginRules
from modules.web.request_bodies import BodyMiddleware
from modules.web.serving import certificate, page_port


def serve_page(app: App) -> str:
    """Start serving the page in its own thread. Returns its address. Raises: UserError."""
    flags = app.launch.server
    number = page_port(flags)
    files: dict[str, Any] = {**certificate(flags)}
    passwords = read_accounts(flags)
    visitors = OriginRules(flags.cors_origin, public=flags.share)
    passing = app.paths.cache / "page"  # uploads and downloads
    os.environ["GRADIO_TEMP_DIR"] = str(passing)
    delete_old_files(passing)
    with _no_server_yet():
        page = build_page(app)
        page.queue(default_concurrency_limit=None, api_open=False)
    texts = load_texts(app.settings.language)
    _reach_ourselves(flags.host)
    page.launch(
        server_name=flags.host,
        server_port=number,
        share=flags.share,
        auth=passwords,
        prevent_thread_lock=True,
        quiet=True,
        max_threads=HANDLERS,
        footer_links=[],
        max_file_size=flags.max_upload << 20,
        run_history=False,
        enable_monitoring=False,
        pwa=True,
        favicon_path=str(Path(__file__).with_name("icon.svg")),
        theme=theme.make_theme(),
        app_kwargs={
            "lifespan": _clearing(passing),
            "middleware": [
                Middleware(OriginMiddleware, visitors=visitors, credentials=True),
                Middleware(EventStreamMiddleware),
                Middleware(GradioScriptsMiddleware),
                Middleware(
                    HeadMiddleware,
                    html=theme.page_head(texts, dark=app.settings.dark_theme) + extension_blocks.extension_head(app),
                    language=texts.code,
                ),
            ],
        },
        **files,
        ssl_verify=not files,
    )
    _stand_before(page.server, visitors, flags)
    limit_connections(page.server)
    address = flags.changed(listen_port=number).address
    if flags.auto_launch and "WEBUI_RESTARTED" not in os.environ:
        open_window(address)
    return address


@contextmanager
def _no_server_yet() -> Iterator[None]:
    """Gradio creates a whole server when a page is begun, when it is finished, and when it gets its queue, but only the
    one of launch() serves. Each takes a fifth of a second, because it describes every component again. While inside,
    the first three are skipped.
    """
    kept = blocks.App
    blocks.App = SimpleNamespace(create_app=lambda *_, **__: None)
    try:
        yield
    finally:
        blocks.App = kept


def _clearing(folder: Path) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """While the page is served, delete old files once an hour. Gradio forgets interrupted uploads."""

    async def clear() -> None:
        while True:
            await asyncio.sleep(3600)
            await asyncio.to_thread(delete_old_files, folder)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(clear())
        yield
        task.cancel()

    return lifespan


def _stand_before(server: Any, visitors: OriginRules, flags: ServerFlags) -> None:
    """Add the middleware that refuses requests before all of gradio, whose own CORS rules would otherwise answer first.

    Those allow any page if the host is not localhost. Until this is in place, the inner OriginMiddleware refuses such
    requests.
    """
    within = ErrorMiddleware(
        BodyMiddleware(LoginLimitMiddleware(server.config.loaded_app), flags.max_upload, "--max-upload")
    )
    server.config.loaded_app = OriginMiddleware(StrictCookieMiddleware(within), visitors, credentials=True)


def _reach_ourselves(host: str) -> None:
    """Gradio asks its own server whether it is up: this must not go through the user's proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        known = [each for each in os.environ.get(name, "").split(",") if each]
        wanted = [each for each in ("127.0.0.1", "localhost", host) if each not in known]
        os.environ[name] = ",".join([*known, *wanted])
