"""Skips these tests if torch is not installed. The fixtures (`exl`, `gpu`, `opens`) are in
tests/loaders/conftest.py.
"""

from __future__ import annotations

import importlib.util

#: Installed with the Transformers loader's requirements; without them, there is nothing to test.
_LACKING = any(importlib.util.find_spec(name) is None for name in ("torch", "tokenizers", "transformers"))
collect_ignore_glob = ["test_*.py"] if _LACKING else []
