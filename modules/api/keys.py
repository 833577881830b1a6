"""Who may do what: the API's key and the admin key, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from errors import InvalidInput
from modules.web.guard import Scope, header

#: What only the admin key opens, where there is one.
ADMIN = tuple(f"/v1/internal/{each}" for each in ("model/list", "model/load", "model/unload", "lora/"))


@dataclass(frozen=True)
class Keys:
    """An empty text is no key. Without an admin key, the API's own opens everything.

    Raises: InvalidInput, for a key that clients could not send.
    """

    api: str = ""
    admin: str = ""

    def __post_init__(self) -> None:
        for flag, key in (("--api-key", self.api), ("--admin-key", self.admin)):
            # a header's other letters reach us as each client thinks fit, and spaces around its value do not at all
            if key and not (key.isascii() and key.isprintable() and key == key.strip()):
                raise InvalidInput(
                    f"The key of {flag} cannot be sent in a header by every client: use the letters A to Z, digits and "
                    "signs such as - and _ alone, without a space before or after them."
                )

    @property
    def exist(self) -> bool:
        """Whether there is any key."""
        return bool(self.api or self.admin)

    @property
    def needed(self) -> bool:
        """Whether every route wants one, but those that say that the server is up."""
        return bool(self.api)

    def carried(self, scope: Scope) -> bool:
        """Whether a request has a right key."""
        given = given_keys(header(scope, b"authorization"), header(scope, b"x-api-key"))
        return _same(given, self.api) or _same(given, self.admin)

    def opens(self, path: str, given: Sequence[str]) -> bool:
        """Whether a request with these keys may have this path."""
        if _same(given, self.admin):
            return True
        if path.startswith(ADMIN) and self.admin:
            return False
        return not self.api or _same(given, self.api)

    def is_admin(self, given: Sequence[str]) -> bool:
        """Whether one of these keys may change what others see."""
        return _same(given, self.admin) if self.admin else not self.api or _same(given, self.api)


def given_keys(authorization: str | None, x_api_key: str | None) -> tuple[str, ...]:
    """What may be the key of a request: `Bearer KEY` in whichever spelling, and the header X-API-Key.

    Both, since a proxy may have put its own `Authorization: Basic ...` there.
    """
    word, _, rest = (authorization or "").strip().partition(" ")
    return rest.strip() or word, (x_api_key or "").strip()


def _same(given: Sequence[str], key: str) -> bool:
    # every one is compared: which of them was right is nobody's business
    wanted = key.encode("utf-8", "replace")
    found = [hmac.compare_digest(each.encode("utf-8", "replace"), wanted) for each in given]
    return bool(key) and any(found)
