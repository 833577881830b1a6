"""How large a context for embeddings is: by the texts that come, in steps. Numbers alone; llama_cpp is not imported.

Its buffers hold a row of logits for each token of a text, as a text is pooled in one piece: with a vocabulary of
128,000 words that is 0.13 GB for 256 tokens, and eight times as much for 2048.
"""

from __future__ import annotations

from typing import Any

#: Tokens; a text is read by a context of the first step that is long enough.
STEPS = (256, 512, 1024, 2048)


def longest(n_ctx: int) -> int:
    """The longest text, in tokens, for a model with this context."""
    return min(n_ctx, STEPS[-1])


def step(tokens: int, n_ctx: int) -> int:
    """The context for a text of so many tokens, up to `longest`."""
    return min(next(size for size in STEPS if size >= tokens), longest(n_ctx))


def fields(tokens: int, n_ctx: int) -> dict[str, Any]:
    """The fields of llama_context_params on which its memory depends."""
    size = step(tokens, n_ctx)
    return {"n_ctx": size, "n_batch": size, "n_ubatch": size, "n_seq_max": 1, "embeddings": True, "no_perf": True}
