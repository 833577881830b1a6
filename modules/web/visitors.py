"""Which browser pages may talk to this program: the rules for the Host and Origin of a request.

A web page of a stranger, open in the user's browser, can send requests to this machine. Its Origin gives it away; and
where it has let its own name point to this machine (DNS rebinding), the Host does. Pure: header values in, a sentence
or nothing out.
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
class Visitors:
    """`origins` were named by the user ("*" is every one). `public`: the page has a public link of Gradio's.

    A password relaxes nothing here: a browser adds the login's cookie to a stranger's request by itself. A key is
    another matter, since a page must know it to send it: see the Guard.
    """

    origins: Collection[str] = ()
    public: bool = False
    names: Collection[str] = field(default_factory=_own_names)

    def refuses_host(self, host: str | None) -> str | None:
        """Why a request to this Host is not answered; None when it is."""
        if host is None:  # without a Host it is no browser
            return None
        name = _host_name(host)
        if name in self.names or name.endswith(".localhost") or _is_address(name):
            return None  # a name can be made to point here, an address cannot
        if self.public and name.endswith(".gradio.live"):
            return None
        if any(_host_name(urlsplit(origin).netloc) == name for origin in self.origins):
            return None
        return (
            f"This program does not answer to the host name {name[:100]!r}. Use the address itself, or start it with "
            "--cors-origin and the address that stands in the browser."
        )

    def refuses_origin(self, origin: str | None, host: str | None) -> str | None:
        """Why a page of this Origin may not use us; None when it may, or when no page asks."""
        if origin is None or self.is_named(origin) or _is_same(origin, host):
            return None
        return (
            f"A page of {origin[:100]} asked, and pages of other origins may not use this program. "
            "Start it with --cors-origin and that address; the API also takes pages that send its key (--api-key)."
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
