"""A request that an engine has taken from its queue: its sampler, and how long it has had its place.

Engines add what else they need (sequences, pages, steps) in subclasses. It must not know about engines.
"""

from __future__ import annotations

from dataclasses import dataclass

from loaders.job import Job
from loaders.sampler import RequestSampler


@dataclass(slots=True, eq=False)
class ActiveRequest:
    """A request in progress."""

    job: Job
    sampler: RequestSampler | None = None  # None if it draws no tokens
    turn: int = 0  # tokens since it got its place, for engines that can take the place away again

    @property
    def replying(self) -> bool:
        """Whether its prompts have been processed."""
        return self.job.report.new_tokens > 0

    @property
    def waits(self) -> bool:
        """Whether its grammar has been asked for the next token and has not answered yet."""
        return self.sampler is not None and self.sampler.waits

    def deliver_rest(self, *, wanted: bool) -> None:
        """The reply has ended: pass the tokens that were held back to its reader, if they are `wanted`."""
        if self.sampler is not None:
            for token in self.sampler.finish(self.job.report):
                if wanted:
                    self.job.put(token)

    def close(self) -> None:
        """End it."""
        if self.sampler:
            self.sampler.close()
