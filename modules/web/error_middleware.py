"""Turns exceptions of a web framework into a line in the log and a plain response without a traceback.

Gradio raises for some requests: from a page that is still open after a restart, or crafted ones. A client could fill
the log with them. This module must not know what is served.
"""

from __future__ import annotations

import logging

from modules.web.origin_middleware import ASGIApp, Message, Receive, Scope, Send, send_error

log = logging.getLogger(__name__)

_SENTENCE = "The server could not handle this request. If you restarted the program, reload the page."
_LONGEST = 200  # characters of text that a client may have written


class ErrorMiddleware:
    """ASGI middleware: an error ends only its request. With --verbose its traceback is logged, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, more = False, True

        async def watched(message: Message) -> None:
            nonlocal begun, more
            begun = True
            more = message["type"] != "http.response.body" or bool(message.get("more_body", False))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            what = f"{type(error).__name__}: {error.__cause__ or error}"
            log.warning("Unhandled error in %s %r: %r", scope["method"], scope["path"][:_LONGEST], what[:_LONGEST])
            log.debug("Traceback of the unhandled error", exc_info=error)
            if not begun:
                await send_error(send, 500, _SENTENCE, "no_answer")
            elif more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
