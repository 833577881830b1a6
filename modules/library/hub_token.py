"""The user's hub token: HF_TOKEN, else the one stored here, readable only by its owner, else huggingface_hub's own."""

from __future__ import annotations

import contextlib
import os
import stat

from errors import Unavailable
from modules.config.paths import Paths


class HubToken:
    """One installation's token. It is never logged or shown."""

    def __init__(self, paths: Paths) -> None:
        self._path = paths.cache / "hub_token"

    def known(self) -> str:
        """The token in use; "" without one."""
        if token := os.environ.get("HF_TOKEN", "").strip():
            return token
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if token := self._path.read_text(encoding="utf-8").strip():
                return token
        from huggingface_hub import get_token

        return get_token() or ""

    def keep(self, token: str) -> None:
        """Store a token ("" deletes it). Raises: Unavailable."""
        try:
            self._path.unlink(missing_ok=True)
            if token.strip():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(self._path, flags, stat.S_IRUSR | stat.S_IWUSR), "w") as file:
                    file.write(token.strip())
        except OSError as error:
            raise Unavailable(f"The token could not be saved to {self._path} ({error.strerror}).") from None
