"""How an engine may use its context: numbers only. Nothing of llama.cpp is imported."""

from __future__ import annotations

from dataclasses import dataclass

#: How many rows of a step may request logits for scores; the context must have room for them.
ROWS_SCORED = 128


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How an engine may use its context. Sizes in tokens, `..._bytes` in bytes.

    `shared`: all sequences share the context's cells. `keep`: with a number, a full context drops the oldest tokens
    after the first `keep` and continues; with None, a reply ends there. `checkpoints`: how many of them may be kept.
    """

    parallel: int
    n_batch: int
    shared: bool = True
    keep: int | None = None
    cache_bytes: int = 0
    checkpoints: int = 0
    speculates: bool = False  # drafts are checked
    disk_bytes: int = 0  # of all states on disk

    @property
    def exact(self) -> bool:
        """Whether logits must not depend on what else is in a step, which only the flash kernel ensures."""
        return not self.shared or self.speculates

    @property
    def sequences(self) -> int:
        """The number of sequences of the context: if they share it, additional ones hold idle chats."""
        return 2 * self.parallel + 4 if self.shared else max(self.parallel, 2)  # two for one with guidance

    @property
    def copies(self) -> int:
        """The context's cells as a multiple of n_ctx."""
        return 1 if self.shared else self.sequences

    @property
    def tokens(self) -> int:
        """The most tokens per step."""
        return max(self.n_batch, 2 * self.parallel)

    @property
    def rows(self) -> int:
        """How many rows of one step may request logits."""
        return 2 * self.parallel + ROWS_SCORED
