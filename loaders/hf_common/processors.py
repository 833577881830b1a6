"""The sampler chain as a LogitsProcessor, so that transformers' own `generate` samples with our knobs.

The computation is that of loaders.sampling. It sees token ids and scores; it must not know of requests.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import LogitsProcessor

from loaders.sampling import SamplerChain

#: Creates the chain of a new reply.
ChainFactory = Callable[[], SamplerChain]


class SamplerLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Scores after the sampler chain: removed tokens have -inf. Pass only this to `generate`, without its warpers."""

    def __init__(self, make: ChainFactory, prompt_length: int) -> None:
        """`prompt_length`: how many of the first tokens of each row are the prompt, which the chain already knows."""
        self._make = make
        self._start = prompt_length
        self._rows: list[tuple[list[int], SamplerChain]] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`input_ids` has the shape (rows, tokens so far), `scores` and the result (rows, vocabulary)."""
        rows = [(ids[self._start :], row) for ids, row in zip(input_ids.tolist(), scores, strict=True)]
        self._rows = [(said, self._chain(said)) for said, _ in rows]
        done = [
            torch.from_numpy(chain.processed(row.float().cpu().numpy()))
            for (_, chain), (_, row) in zip(self._rows, rows, strict=True)
        ]
        return torch.stack(done).to(scores.device)

    def _chain(self, said: list[int]) -> SamplerChain:
        """The chain that has seen these tokens: one of the last step's, advanced by a token, or a new one."""
        for place, (before, chain) in enumerate(self._rows):
            if said and before == said[:-1]:
                del self._rows[place]  # its state advances with this row; another row gets a new one
                chain.accept(said[-1])
                return chain
        chain = self._make()
        for token in said:
            chain.accept(token)
        return chain
