"""Adds our styles and scripts to the page's head, so that they apply before anything is painted.

Gradio would add them by script after the page has appeared in other colours, and would rewrite every selector. Here
they are part of the document itself. References to pictures on other hosts are removed, and the document forbids
loading anything from elsewhere: a picture in a reply could send the conversation to another host. The document is sent
compressed (a fourteenth of its size), and not at all to a browser that still has it.
"""

from __future__ import annotations

import hashlib
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modules.web.compression import accepted_encoding, compress

_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
_LANGUAGE = re.compile(rb'(?<=\s)lang="[^"]*"')
#: Loads a script that tells an embedding page of another site how high this one is. The rest of it serves Colab.
_EMBEDDED = re.compile(rb"(/iframeResizer[^<]*?)document\.head\.appendChild\(script\);")
_SOCIAL = re.compile(rb'\s*<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')


class HeadMiddleware:
    """ASGI middleware: complete HTML documents get `html` at the end of their head, and a language attribute."""

    def __init__(self, app: ASGIApp, html: str, language: str) -> None:
        self._app = app
        self._html = html.encode()
        self._language = f'lang="{language}"'.encode()
        # the last document that was compressed: its tag, how, and the result
        self._packed: tuple[tuple[str, str], bytes] = (("", ""), b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        parts: list[bytes] = []

        async def gather(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if headers.get("content-type", "").startswith("text/html"):
                    headers["content-security-policy"] = _POLICY
                    start = message
                    return
            elif start is not None and message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    body = self._answer(Headers(scope=scope), start, self._changed(b"".join(parts)))
                    await send(start)
                    await send({"type": "http.response.body", "body": body})
                return
            await send(message)

        await self._app(scope, receive, gather)

    def _answer(self, asked: Headers, start: Message, document: bytes) -> bytes:
        """The body for this request; completes the response's headers."""
        headers = MutableHeaders(raw=start["headers"])
        headers.add_vary_header("accept-encoding")
        if start["status"] == 200:
            tag = f'"{hashlib.blake2b(document, digest_size=12).hexdigest()}"'
            headers["etag"], headers["cache-control"] = f"W/{tag}", "private, no-cache"
            if tag in asked.get("if-none-match", ""):
                start["status"] = 304
                del headers["content-length"]
                return b""
            if how := accepted_encoding(asked):
                if self._packed[0] != (tag, how):
                    self._packed = (tag, how), compress(document, how)
                document = self._packed[1]
                headers["content-encoding"] = how
        headers["content-length"] = str(len(document))
        return document

    def _changed(self, document: bytes) -> bytes:
        head, end, rest = document.partition(b"</head>")
        if not end:
            return document
        head = _EMBEDDED.sub(rb"\1", _SOCIAL.sub(b"", head))
        return _LANGUAGE.sub(self._language, head, count=1) + self._html + end + rest
