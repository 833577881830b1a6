"""The dynamic generator's job, with our sampler instead of its own.

In `receive_logits` the generator passes a job its logits (a float tensor in main memory, shape (sequences, 1, padded
vocabulary)) and gets a token; pages, batches and draft tokens are still handled by the generator. It must not know how
a token is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from exllamav2.ext import none_tensor
from exllamav2.generator import ExLlamaV2DynamicJob

from loaders.engine.decoding_request import DecodingRequest


class SamplerJob(ExLlamaV2DynamicJob):  # type: ignore[misc]
    """A run's prompts in the generator: one sequence, or two that are decoded together for guidance."""

    def __init__(
        self, run: DecodingRequest, prompts: Sequence[Sequence[int]], max_new: int, end_ids: frozenset[int]
    ) -> None:
        super().__init__(
            input_ids=[torch.tensor([list(ids)], dtype=torch.long) for ids in prompts],
            max_new_tokens=max_new,
            stop_conditions=sorted(end_ids),
            max_skips=0,  # first come, first served: a request that fits better must not overtake
        )
        self.run = run
        #: The prompts, each with the reply so far.
        self.texts = [list(ids) for ids in prompts]
        #: Whether the reply no longer contains tokens that the generator holds: another job must continue it.
        self.back = False
        self._whole_pages = 0

    def allocate_pages(self) -> None:
        """Called by the generator when the job leaves its queue."""
        super().allocate_pages()
        self._whole_pages = int(self.sequences[0].kv_position)
        self.run.job.start()

    def receive_logits(self, logits: torch.Tensor) -> tuple[Any, Any, Any, Any, bool]:
        """Called by the generator, also from several threads for several jobs."""
        if not self.back:  # otherwise what the generator computes is of no use
            self.run.choose(logits[:, 0, :].numpy())
            self.back = self.run.dropped > 0
            for ids in self.texts:
                del ids[len(ids) - self.run.dropped :]
                ids.append(self.run.token)
        token = self.run.token
        return torch.tensor([[token]], dtype=torch.long), none_tensor, none_tensor, torch.ones((1, 1)), False

    @property
    def reused(self) -> int:
        """Tokens of the first prompt that were cached; with two prompts, only whole pages."""
        if len(self.sequences) > 1:  # the generator counts both prompts
            return self._whole_pages
        cached = self.cached_pages * self.generator.page_size + self.cached_tokens
        return int(min(cached, len(self.sequences[0].input_ids) - 1))
