"""The HTTP API: OpenAI's routes and our own. Routes parse, call a service, and shape the response; nothing else.

It never touches an engine or the page. Importing this package does not import FastAPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modules.api.serve import ApiServer
    from modules.app import App

__all__ = ["launch"]


def launch(app: App) -> ApiServer:
    """Serve the API in its own thread. Raises: UserError if it cannot be served."""
    from modules.api.serve import serve_api

    return serve_api(app)
