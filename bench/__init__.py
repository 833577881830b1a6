"""Benchmarks, one per module: `python -m bench NAME` runs one and writes its figures to docs/benchmarks.md.

Both sides of a comparison are measured alternately in the same run and reported as a ratio of medians with the spread,
because the machines are shared and noisy.
"""

from pathlib import Path

from installer.own_python import use_own_python

use_own_python(Path(__file__).resolve().parents[1])  # before a measurement imports what only that has
