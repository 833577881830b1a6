"""Serves Gradio's browser scripts without four faults that make every event of a large page slow, and one that loses
clicks.

Gradio searches all components, one by one, whenever it looks for one. With 1,000 components and 400 events, opening the
page took the browser 6 s instead of 2, and each click 0.1 s. The corrections are replacements in the scripts of the
pinned version; if a script does not contain the text any more, it is served as it is. This module must not know what
the page consists of.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"


@dataclass(frozen=True)
class Correction:
    """A replacement in the one script whose name begins with `script`."""

    script: str
    old: str
    new: str


CORRECTIONS = (
    # A finished event gave each of its inputs a loading status, and from then on every event looked all of them up.
    # Only inputs of a stream that is open have one.
    Correction("statustracker-", "h.includes(e)&&s?`input`", "h.includes(e)&&s&&s!==`closed`?`input`"),
    # The value of a component that is shown comes from the component: the search is not needed.
    Correction("core-", "let t=this.#s.get(e),n=Z(this.root,e);", "let t=this.#s.get(e),n=t?null:Z(this.root,e);"),
    # Each event asked for the value of its component, also if it was to change nothing there.
    Correction(
        "Blocks-",
        "async set_event_args(e,t){let n={},",
        "async set_event_args(e,t){if(Object.keys(t).length===0)return()=>{};let n={},",
    ),
    # The names of the events that are attached to a component, from an index instead of a search for each component.
    Correction(
        "core-",
        "let n=t.filter(t=>t.targets.find(([t])=>t===e.id)).map(t=>{let n=t.targets.find(([t])=>t===e.id);"
        "return n?n[1]:null}).filter(Boolean);",
        "this.attached??=new WeakMap;let o=this.attached.get(t);if(!o){o=new Map;for(let d of t){let s=new Set;"
        "for(let[i,v]of d.targets)if(!s.has(i)){s.add(i);o.has(i)||o.set(i,[]);v&&o.get(i).push(v)}}"
        "this.attached.set(t,o)}let n=[...o.get(e.id)??[]];",
    ),
    # An event that waits until the one before it has ended ("always_last") ran with the data of that one: of two quick
    # clicks on different entries of a list, the first counted.
    Correction(
        "Blocks-",
        "if(t===`defer`){this.queue.add(r.id);continue}",
        "if(t===`defer`){this.queue.add(r.id);(this.waiting??=new Map).set(r.id,e);continue}",
    ),
    Correction(
        "Blocks-",
        "this.dispatch(e))}}catch{",
        "this.dispatch({...this.waiting.get(r.id),type:`fn`,fn_index:r.id}))}}catch{",
    ),
)


class GradioScriptsMiddleware:
    """ASGI middleware: serves the corrected scripts, and passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._scripts = {f"/assets/{name}": _Script(text) for name, text in corrected_scripts()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        script = self._scripts.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        app = script.response(Headers(scope=scope)) if script else self._app
        await app(scope, receive, send)


def corrected_scripts() -> Iterator[tuple[str, str]]:
    """The file name and the corrected text of each script that has a correction."""
    for start in dict.fromkeys(each.script for each in CORRECTIONS):
        for file in ASSETS.glob(f"{start}*.js"):
            text = found = file.read_text(encoding="utf-8")
            for each in CORRECTIONS:
                if each.script == start:
                    text = text.replace(each.old, each.new)
            if text != found:
                yield file.name, text
                break
        else:
            log.warning("Gradio's script %s is another one than expected: the page is slower.", start)


class _Script:
    def __init__(self, text: str) -> None:
        self._whole = text.encode()
        self._packed = gzip.compress(self._whole, 6, mtime=0)
        self._tag = f'W/"{hashlib.blake2b(self._whole, digest_size=12).hexdigest()}"'

    def response(self, request: Headers) -> Response:
        headers = {"etag": self._tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if self._tag in request.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        packed = "gzip" in request.get("accept-encoding", "")
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(self._packed if packed else self._whole, headers=headers, media_type="text/javascript")
