"""What a framework raises over a request that it has no answer to: a line in the log, and not a page of its inside.

Gradio answers so to whoever knows it a little: a page that is still open after the program was started anew, a crafted
request. A stranger could fill the log with it. This module must not know what is served.
"""

from __future__ import annotations

import logging

from modules.web.guard import App, Message, Receive, Scope, Send, refuse

log = logging.getLogger(__name__)

_SENTENCE = "The page's server has no answer to this request. If the page was open before a restart, load it anew."
_LONGEST = 200  # characters of what a stranger may have written


class Faults:
    """ASGI middleware: an error ends the request alone. With --verbose its traceback is in the log, too."""

    def __init__(self, app: App) -> None:
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
            log.warning("No answer to %s %r: %r", scope["method"], scope["path"][:_LONGEST], what[:_LONGEST])
            log.debug("Where it failed", exc_info=error)
            if not begun:
                await refuse(send, 500, _SENTENCE, "no_answer")
            elif more:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
