"""Which browser pages may use this program: the rules for the Host and Origin headers of a request.

A page of another site, open in the user's browser, can send requests to this machine. Its Origin header reveals it; if
it has pointed its own name to this machine (DNS rebinding), the Host header does. Pure: header values in, a sentence or
None out.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return frozenset({"localhost", name, short, f"{short}.local"})


@dataclass(frozen=True)
class OriginRules:
    """`origins` were named by the user ("*" allows every one). `public`: the page has a public Gradio link.

    A password does not relax the rules: a browser adds the login cookie to another site's request automatically. An API
    key does, because a page must know it to send it: see OriginMiddleware.
    """

    origins: Collection[str] = ()
    public: bool = False
    names: Collection[str] = field(default_factory=_own_names)

    def refuses_host(self, host: str | None) -> str | None:
        """Why a request to this Host is refused; None if it is not."""
        if host is None:  # browsers always send a Host header
            return None
        name = _host_name(host)
        if name in self.names or name.endswith(".localhost") or _is_address(name):
            return None  # a name can be made to point here, an address cannot
        if self.public and name.endswith(".gradio.live"):
            return None
        if any(_host_name(urlsplit(origin).netloc) == name for origin in self.origins):
            return None
        return (
            f"The host name {name[:100]!r} is not allowed. Use the IP address instead, or start the program with "
            "--cors-origin and the address shown in the browser."
        )

    def refuses_origin(self, origin: str | None, host: str | None) -> str | None:
        """Why a page of this Origin is refused; None if it is not, or if the request comes from no page."""
        if origin is None or self.is_named(origin) or _is_same(origin, host):
            return None
        return (
            f"Requests from the origin {origin[:100]} are not allowed. Start the program with --cors-origin and "
            "that address; the API also accepts requests with its key (--api-key)."
        )

    def is_named(self, origin: str) -> bool:
        """Whether the user has named this origin."""
        return "*" in self.origins or origin.rstrip("/") in {each.rstrip("/") for each in self.origins}


def _is_same(origin: str, host: str | None) -> bool:
    if host is None:
        return False
    try:
        parts = urlsplit(origin)
        usual = _PORTS.get(parts.scheme)
        asked = urlsplit(f"//{host}")
        return parts.hostname == asked.hostname and (parts.port or usual) == (asked.port or usual)
    except ValueError:
        return False


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
