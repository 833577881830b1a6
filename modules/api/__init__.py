"""The HTTP API: OpenAI's routes and our own. Routes parse, ask a service, and shape the answer; nothing else is here.

It never touches an engine or the page. Importing this package imports no FastAPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modules.api.serve import Served
    from modules.app import App

__all__ = ["launch"]


def launch(app: App) -> Served:
    """Serve the API in a thread of its own. Raises: UserError, when it cannot be served."""
    from modules.api.serve import serve

    return serve(app)
