"""The Python environment: created, filled, tested, replaced, and restored if that fails."""
