"""The API server: the FastAPI application with its middleware, in its own thread under uvicorn."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from errors import Unavailable
from modules.api import docs_page, errors, generate, internal, models
from modules.api.ascii_json import AsciiJSON
from modules.api.description import install_description
from modules.api.keys import ApiKeys
from modules.api.reply_limit import ReplyLimit
from modules.api.request_middleware import RequestMiddleware
from modules.api.threadpools import Threadpools
from modules.app import App
from modules.web.connections import limit_connections
from modules.web.origin_middleware import OriginMiddleware
from modules.web.origins import OriginRules
from modules.web.serving import api_port, certificate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiServer:
    """A running server. `address` is the URL for clients."""

    address: str
    server: uvicorn.Server
    thread: threading.Thread

    def close(self) -> None:
        """Stop it; open connections get a second to end."""
        self.server.should_exit = True
        self.thread.join(5)


def build_api(app: App) -> FastAPI:
    """The application with its middleware, without a server. Raises: InvalidInput."""
    flags = app.launch.server
    visitors = OriginRules(flags.cors_origin)
    workers = Threadpools(flags.api_max_requests)
    room = ReplyLimit(flags.api_max_requests)
    api = FastAPI(
        title="text-generation-webui",
        description="OpenAI-compatible routes and the program's own.",
        version="1",
        default_response_class=AsciiJSON,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the middleware has removed a trailing slash
    )
    for routes in (generate.routes, models.routes, internal.routes):
        api.include_router(routes(app, workers))
    api.add_api_route("/health", internal.health, tags=["internal"])  # the path that other servers use

    @api.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """The API's documentation for people."""
        text = docs_page.render_docs_page(api.openapi(), str(request.base_url).rstrip("/"))
        headers = {"Content-Security-Policy": docs_page.POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(text, headers=headers)

    errors.install_error_handlers(api)
    install_description(api)
    keys = ApiKeys(flags.api_key, flags.admin_key)
    # the last one added is called first
    api.add_middleware(RequestMiddleware, keys=keys, most_body=flags.api_max_body, room=room)
    api.add_middleware(OriginMiddleware, visitors=visitors, keys=keys)
    return api


def serve_api(app: App) -> ApiServer:
    """Start the server. Raises: UserError."""
    flags = app.launch.server
    port = api_port(flags)
    files: dict[str, Any] = {**certificate(flags)}
    config = uvicorn.Config(
        build_api(app),
        host=flags.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        lifespan="off",
        **files,
    )
    server = uvicorn.Server(config)
    limit_connections(server)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise Unavailable(f"Cannot start the API on {flags.host}:{port}. See the log for details.")
        time.sleep(0.01)
    return ApiServer(flags.address_of(port), server, thread)
