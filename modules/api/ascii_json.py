"""The JSON encoding of all responses: ASCII only, so that lone surrogates cannot break anything."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse


class AsciiJSON(JSONResponse):
    """Non-ASCII characters are escaped: UTF-8 cannot encode a lone surrogate, JSON can."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
