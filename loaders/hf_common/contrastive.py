"""Contrastive search: of the most likely tokens, the one that is least similar to the text so far.

Source: Su et al. 2022, arXiv 2202.06417: argmax over the top-k tokens v of
(1 - alpha) * p(v) - alpha * max_j cos(h_v, h_j), with h the last hidden state. The k candidates are read in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from loaders.sampling import SamplerChain


def contrastive_search(
    model: Any, ids: Sequence[int], chain: SamplerChain, *, alpha: float, top_k: int, n_vocab: int
) -> Iterator[int]:
    """The tokens that follow `ids`, endlessly. `chain` applies the penalties and is updated."""
    device = model.device
    with torch.inference_mode():
        out = model(
            input_ids=torch.tensor([list(ids)], device=device),
            past_key_values=DynamicCache(config=model.config),
            use_cache=True,
            output_hidden_states=True,
        )
        cache, logits = out.past_key_values, out.logits[0, -1]
        context = torch.nn.functional.normalize(out.hidden_states[-1][0].float(), dim=-1)  # (tokens, width)
    while True:
        with torch.inference_mode():
            scores = chain.processed(logits[:n_vocab].float().cpu().numpy())
            candidates = np.argpartition(-scores, min(top_k, n_vocab) - 1)[:top_k]
            candidates = candidates[scores[candidates] > -np.inf]
            chances = np.exp(scores - scores.max())
            chances = chances[candidates] / chances.sum()
            count = len(candidates)
            cache.batch_repeat_interleave(count)
            out = model(
                input_ids=torch.tensor(candidates[:, None], device=device),
                past_key_values=cache,
                use_cache=True,
                output_hidden_states=True,
            )
            hidden = torch.nn.functional.normalize(out.hidden_states[-1][:, -1].float(), dim=-1)
            likeness = (hidden @ context.T).max(dim=1).values
            weighed = (1 - alpha) * torch.from_numpy(chances).to(likeness) - alpha * likeness
            best = int(weighed.argmax())
            cache = out.past_key_values
            cache.batch_select_indices(torch.tensor([best], device=device))
            logits = out.logits[best, -1]
            context = torch.cat([context, hidden[best : best + 1]])
        token = int(candidates[best])
        chain.accept(token)
        yield token
