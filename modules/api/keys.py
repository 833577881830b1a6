"""API keys and their permissions: the API's key and the admin key, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from modules.web.origin_middleware import Scope, request_header
from modules.web.serving import check_key

#: Paths that need the admin key, if there is one.
ADMIN = tuple(f"/v1/internal/{each}" for each in ("model/list", "model/load", "model/unload", "lora/"))


@dataclass(frozen=True)
class ApiKeys:
    """An empty text is no key. Without an admin key, the API's own key allows everything.

    Raises: InvalidInput for a key that clients could not send.
    """

    api: str = ""
    admin: str = ""

    def __post_init__(self) -> None:
        check_key("--api-key", self.api)
        check_key("--admin-key", self.admin)

    @property
    def exist(self) -> bool:
        """Whether there is any key."""
        return bool(self.api or self.admin)

    @property
    def needed(self) -> bool:
        """Whether every route needs one, except those that report that the server is up."""
        return bool(self.api)

    def carried(self, scope: Scope) -> bool:
        """Whether a request has a valid key."""
        given = request_keys(request_header(scope, b"authorization"), request_header(scope, b"x-api-key"))
        return _same(given, self.api) or _same(given, self.admin)

    def opens(self, path: str, given: Sequence[str]) -> bool:
        """Whether a request with these keys may access this path."""
        if _same(given, self.admin):
            return True
        if path.startswith(ADMIN) and self.admin:
            return False
        return not self.api or _same(given, self.api)

    def is_admin(self, given: Sequence[str]) -> bool:
        """Whether one of these keys may change what others see."""
        return _same(given, self.admin) if self.admin else not self.api or _same(given, self.api)


def request_keys(authorization: str | None, x_api_key: str | None) -> tuple[str, ...]:
    """The possible keys of a request: `Bearer KEY` in any spelling, and the header X-API-Key.

    Both, because a proxy may have put its own `Authorization: Basic ...` there.
    """
    word, _, rest = (authorization or "").strip().partition(" ")
    return rest.strip() or word, (x_api_key or "").strip()


def _same(given: Sequence[str], key: str) -> bool:
    # all are compared, so that the time does not reveal which one was right
    wanted = key.encode("utf-8", "replace")
    found = [hmac.compare_digest(each.encode("utf-8", "replace"), wanted) for each in given]
    return bool(key) and any(found)
