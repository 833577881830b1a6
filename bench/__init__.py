"""Measured figures, each in a module of its own: `python -m bench NAME` runs one and writes it to docs/benchmarks.md.

Every figure is measured beside its peer in the same run, in turn, and told as a ratio of medians with the spread:
the machines are shared and noisy.
"""
