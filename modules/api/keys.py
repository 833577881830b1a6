"""Who may do what: the API's key and the admin key, compared in constant time."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

#: What only the admin key opens, where there is one.
ADMIN = tuple(f"/v1/internal/{each}" for each in ("model/list", "model/load", "model/unload", "lora/"))


@dataclass(frozen=True)
class Keys:
    """An empty text is no key. Without an admin key, the API's own opens everything."""

    api: str = ""
    admin: str = ""

    def opens(self, path: str, given: str) -> bool:
        """Whether a request with this key may have this path."""
        if _same(given, self.admin):
            return True
        if path.startswith(ADMIN) and self.admin:
            return False
        return not self.api or _same(given, self.api)

    def is_admin(self, given: str) -> bool:
        """Whether this key may change what others see."""
        return _same(given, self.admin) if self.admin else not self.api or _same(given, self.api)


def given_key(authorization: str | None, x_api_key: str | None) -> str:
    """The key of a request: `Bearer KEY` in whichever spelling, or the header X-API-Key."""
    word, _, rest = (authorization or "").strip().partition(" ")
    return rest.strip() or (word if word.lower() not in ("bearer", "token") else "") or (x_api_key or "").strip()


def _same(given: str, key: str) -> bool:
    return bool(key) and hmac.compare_digest(given.encode("utf-8", "replace"), key.encode("utf-8", "replace"))
