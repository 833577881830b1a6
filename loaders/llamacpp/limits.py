"""How an engine may use its context: numbers alone. Nothing of llama.cpp is imported."""

from __future__ import annotations

from dataclasses import dataclass

#: How many rows of a step may ask for their logits to be scored; the context must have room for them.
ROWS_SCORED = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """How an engine may use its context. Sizes in tokens, `cache_bytes` in bytes.

    `shared`: all sequences share the context's cells. `keep`: with a number, a full context drops the oldest tokens
    after the first `keep` and goes on; with None a reply ends there.
    """

    parallel: int
    n_batch: int
    shared: bool = True
    keep: int | None = None
    cache_bytes: int = 0

    @property
    def sequences(self) -> int:
        """How many sequences the context must have: where they share it, spare ones keep what is not running."""
        return 2 * self.parallel + 4 if self.shared else max(self.parallel, 2)  # two for one with guidance

    @property
    def copies(self) -> int:
        """How many times n_ctx the context's cells must be."""
        return 1 if self.shared else self.sequences

    @property
    def tokens(self) -> int:
        """The most tokens of one step."""
        return max(self.n_batch, 2 * self.parallel)

    @property
    def rows(self) -> int:
        """How many rows of one step may ask for logits."""
        return 2 * self.parallel + ROWS_SCORED
