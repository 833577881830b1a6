"""`python -m bench NAME [NAME ...]`: measure, print, and write to docs/benchmarks.md. Without a name: list the
names.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench

names = [
    m.name
    for m in pkgutil.iter_modules(bench.__path__)
    if m.name not in ("__main__", "bare_steps", "figure", "plain_lora")
]
unknown = [name for name in sys.argv[1:] if name not in names]
if unknown or len(sys.argv) == 1:
    print(f"usage: python -m bench NAME ...\nfigures: {', '.join(names)}")
    sys.exit(2 if unknown else 0)
for name in sys.argv[1:]:
    print(f"== {name}", flush=True)
    importlib.import_module(f"bench.{name}").main()
