"""Serves Gradio's browser scripts compressed, and without four faults that make every event of a large page slow, and
one that loses clicks.

Gradio searches all components, one by one, whenever it looks for one. With 1,000 components and 400 events, opening the
page took the browser 6 s instead of 2, and each click 0.1 s. The corrections are replacements in the scripts of the
pinned version; if a script does not contain the text any more, it is served as it is. This module must not know what
the page consists of.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from modules.web.compression import accepted_encoding, compress

log = logging.getLogger(__name__)

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
_TYPES = {".js": "text/javascript", ".css": "text/css"}


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
    # Each look for a component walked the tree of all of them: a click on Send looked for each of its 200 inputs.
    Correction(
        "core-",
        "function Z(e,t){if(e.id===t)return e;if(e.children)for(let n of e.children){let e=Z(n,t);if(e)return e}"
        "return null}",
        "var found=new WeakMap;function Z(e,t){let n=found.get(e);n||found.set(e,n=new Map);"
        "n.has(t)||n.set(t,walked(e,t));return n.get(t)}"
        "function walked(e,t){if(e.id===t)return e;if(e.children)for(let n of e.children){let e=walked(n,t);"
        "if(e)return e}return null}",
    ),
    Correction("core-", "a.children=i.children,", "a.children=i.children,found.delete(this.root),"),
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
    """ASGI middleware: serves Gradio's scripts and style sheets, the corrected ones among them, and passes everything
    else on. Gradio compresses each of them again for each browser, with the least effort, and lets browsers ask again
    for all hundred at each load.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        changed = dict(corrected_scripts())
        files = [file for file in ASSETS.iterdir() if file.suffix in _TYPES]
        self._assets = {f"/assets/{file.name}": _Asset(file, changed.get(file.name)) for file in files}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asset = self._assets.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        app = asset.response(Headers(scope=scope)) if asset else self._app
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


class _Asset:
    """A script or a style sheet. `text`: of one that is corrected; its name does not tell the correction."""

    def __init__(self, file: Path, text: str | None) -> None:
        self._file, self._text = file, text
        self._packed: dict[str, bytes] = {}  # by encoding

    def response(self, request: Headers) -> Response:
        headers = {"vary": "accept-encoding", "cache-control": "max-age=31536000, immutable"}  # a new text, a new name
        if self._text is not None:
            tag = f'W/"{hashlib.blake2b(self._text.encode(), digest_size=12).hexdigest()}"'
            headers |= {"etag": tag, "cache-control": "no-cache"}
            if tag in request.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
        how = accepted_encoding(request)
        if how not in self._packed:
            body = self._file.read_bytes() if self._text is None else self._text.encode()
            self._packed[how] = compress(body, how) if how else body
        if how:
            headers["content-encoding"] = how
        return Response(self._packed[how], headers=headers, media_type=_TYPES[self._file.suffix])
