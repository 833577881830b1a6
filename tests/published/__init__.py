"""The published templates of 70 models, as llama.cpp collects them (models/templates, MIT: see LICENSE here)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def templates() -> Mapping[str, str]:
    """Name to template text."""
    data = gzip.decompress(Path(__file__).with_name("templates.json.gz").read_bytes())
    return dict(json.loads(data))
