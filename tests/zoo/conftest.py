"""The zoo's folders, each created and loaded once per session; nothing if torch is not installed."""

from __future__ import annotations

import importlib.util

#: They come with requirements-torch.txt; run_tests.sh installs it, so that nothing is left out there.
_LACKING = any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft"))
collect_ignore_glob = ["test_folders.py", "test_caches.py", "test_continuation.py"] if _LACKING else []
