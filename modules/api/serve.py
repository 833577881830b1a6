"""The API as a server: the FastAPI application with its gate, in a thread of its own under uvicorn."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from errors import InvalidInput, Unavailable
from modules.api import docs_page, failures, generate, internal, models
from modules.api.ascii_json import AsciiJSON
from modules.api.description import describe
from modules.api.gate import Gate
from modules.api.keys import Keys
from modules.api.room import Room
from modules.api.work import Workers
from modules.app import App
from modules.web.connections import watch_over
from modules.web.guard import Guard
from modules.web.port import free_port
from modules.web.visitors import Visitors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A running server. `address` is what a client is told."""

    address: str
    server: uvicorn.Server
    thread: threading.Thread

    def close(self) -> None:
        """End it; connections that are open get a second to end."""
        self.server.should_exit = True
        self.thread.join(5)


def build(app: App) -> FastAPI:
    """The application with its middleware, without a server. Raises: InvalidInput."""
    flags = app.launch.server
    visitors = Visitors(flags.cors_origin)
    workers = Workers(flags.api_max_requests)
    room = Room(flags.api_max_requests)
    api = FastAPI(
        title="text-generation-webui",
        description="OpenAI's routes and our own.",
        version="1",
        default_response_class=AsciiJSON,
        docs_url=None,
        redoc_url=None,
    )
    for routes in (generate.routes, models.routes, internal.routes):
        api.include_router(routes(app, workers))
    api.add_api_route("/health", internal.health, tags=["internal"])  # where other servers have it, and clients look

    @api.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """The API's description for people."""
        text = docs_page.page(api.openapi(), str(request.base_url).rstrip("/"))
        headers = {"Content-Security-Policy": docs_page.POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(text, headers=headers)

    failures.install(api)
    describe(api)
    keys = Keys(flags.api_key, flags.admin_key)
    # the last one added is the first one passed
    api.add_middleware(Gate, keys=keys, most_body=flags.api_max_body, room=room)
    api.add_middleware(Guard, visitors=visitors, keys=keys)
    return api


def serve(app: App) -> Served:
    """Raises: UserError."""
    flags = app.launch.server
    fixed = "api_port" in flags.model_fields_set
    port = free_port(flags.host, flags.api_port, what="API", flag="--api-port", fixed=fixed)
    config = uvicorn.Config(
        build(app),
        host=flags.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        lifespan="off",
        **_certificates(flags.ssl_keyfile, flags.ssl_certfile),
    )
    server = uvicorn.Server(config)
    watch_over(server)
    thread = threading.Thread(target=server.run, name="api", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise Unavailable(f"The API cannot be served on {flags.host}:{port}; the log has the details.")
        time.sleep(0.01)
    return Served(flags.address_of(port), server, thread)


def _certificates(keyfile: str, certfile: str) -> dict[str, Any]:
    if not (keyfile and certfile):
        return {}
    for file in (keyfile, certfile):
        if not Path(file).expanduser().is_file():
            raise InvalidInput(f"There is no file {file} for https.")
    return {"ssl_keyfile": str(Path(keyfile).expanduser()), "ssl_certfile": str(Path(certfile).expanduser())}
