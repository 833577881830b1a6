"""JSON as it is answered everywhere here: ASCII alone, so that half a character from anywhere breaks nothing."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse


class AsciiJSON(JSONResponse):
    """What is not ASCII is escaped: UTF-8 has no form for a lone surrogate, a JSON text has."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
