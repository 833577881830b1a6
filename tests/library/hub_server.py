"""A model hub on loopback with the real one's API: tree, resolve, ranges, etags, redirects, errors, outages."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "a" * 40


@dataclass
class Repo:
    """A repository's files; `gate`: the token that opens it ("" for anybody)."""

    files: dict[str, bytes]
    branches: tuple[str, ...] = ("main",)
    gate: str = ""
    gated: bool = False  # gated repositories respond differently from private ones


@dataclass
class HubServer:
    """Its repositories, and the faults for its clients."""

    repos: dict[str, Repo] = field(default_factory=dict)
    cuts: float = 0.0  # the probability that a transfer ends early
    statuses: list[int] = field(default_factory=list)  # the next responses to transfers
    html: bool = False  # every response is a login page
    ignores_ranges: bool = False
    lies: bytes = b""  # replaces a file's contents
    slow: threading.Event | None = None  # transfers pause halfway for it
    served: Counter[str] = field(default_factory=Counter)  # bytes sent of each file
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    url: str = ""

    def __enter__(self) -> HubServer:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.slow:
            self.slow.set()
        self._server.shutdown()
        self._server.server_close()


@lru_cache(maxsize=256)
def sums(data: bytes) -> tuple[str, str]:
    """SHA-256, and git's hash of a blob."""
    return hashlib.sha256(data).hexdigest(), hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def is_large(data: bytes) -> bool:
    """Large files are identified by their SHA-256, and served from another address."""
    return len(data) > 1000


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub, url = self.server_hub, urlsplit(self.path)
        path = unquote(url.path)
        hub.asked.append(path)
        hub.tokens.append(self.headers.get("authorization", ""))
        if hub.html:
            return self._answer(200, b"<html>Please log in</html>", "text/html")
        if path == "/api/models":
            word = parse_qs(url.query).get("search", [""])[0].lower()
            known = {"tags": [], "downloads": 1234, "likes": 56, "gguf": {"total": 1_000_000_000}}
            found = [{"id": name, **known} for name in hub.repos if word in name.lower()]
            return self._json(found)
        if path.startswith("/cdn/"):
            return self._file(path.removeprefix("/cdn/"))
        words = [unquote(word) for word in url.path.strip("/").split("/")]  # a branch may have an escaped slash
        if words[:2] == ["api", "models"]:
            return self._tree("/".join(words[2:4]), words[5] if len(words) > 5 else "")
        if len(words) > 4 and words[2] == "resolve":
            return self._resolve("/".join(words[:2]), words[3], "/".join(words[4:]))
        return self._error(404, "")

    do_HEAD = do_GET

    def _allowed(self, name: str, branch: str) -> Repo | None:
        repo = self.server_hub.repos.get(name)
        if repo is None:
            self._error(401, "RepoNotFound")
        elif repo.gate and self.headers.get("authorization") != f"Bearer {repo.gate}":
            if repo.gated:
                self._error(403, "GatedRepo")
            else:
                self._error(401, "RepoNotFound")
        elif branch not in repo.branches:
            self._error(404, "RevisionNotFound")
        else:
            return repo
        return None

    def _tree(self, name: str, branch: str) -> None:
        repo = self._allowed(name, branch)
        if repo is None:
            return
        entries = []
        for path, data in repo.files.items():
            sha256, blob = sums(data)
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob}
            if is_large(data):
                entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def _resolve(self, name: str, branch: str, path: str) -> None:
        repo = self._allowed(name, branch)
        if repo is None:
            return None
        if path not in repo.files:
            return self._error(404, "EntryNotFound")
        if is_large(repo.files[path]):
            data = repo.files[path]
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("X-Linked-Etag", f'"{sums(data)[0]}"')
            self.send_header("Location", f"{self.server_hub.url}/cdn/{name}/{path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self._file(f"{name}/{path}")

    def _file(self, full: str) -> None:
        hub = self.server_hub
        if hub.statuses:
            return self._error(hub.statuses.pop(0), "")
        name, path = "/".join(full.split("/")[:2]), "/".join(full.split("/")[2:])
        data = hub.lies or hub.repos[name].files[path]
        start = 0
        if not hub.ignores_ranges and self.headers.get("range", "").startswith("bytes="):
            start = int(self.headers["range"][6:].partition("-")[0])
            if start >= len(data):
                return self._error(416, "")
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{sums(data)[0]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return None
        end = len(data)
        if hub.chance.random() < hub.cuts:
            end = hub.chance.randint(start, len(data))
        middle = (start + end) // 2
        self._send(path, data[start:middle])
        if hub.slow:
            hub.slow.wait(120)
        self._send(path, data[middle:end])
        if end < len(data):
            self.close_connection = True
            self.connection.close()
        return None

    def _send(self, path: str, data: bytes) -> None:
        try:
            self.wfile.write(data)
            self.wfile.flush()
            self.server_hub.served[path] += len(data)
        except OSError:
            self.close_connection = True

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if status == 429:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "0")
        self.end_headers()
