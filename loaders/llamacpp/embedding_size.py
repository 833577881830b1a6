"""The size of a context for embeddings, in steps, by the length of the texts. Numbers only; llama_cpp is not imported.

Its buffers hold a row of logits for each token of a text, because a text is pooled in one piece: with a vocabulary of
128,000 words that is 0.13 GB for 256 tokens, and eight times as much for 2048.
"""

from __future__ import annotations

from typing import Any

#: Tokens; a text uses a context of the first step that is long enough.
STEPS = (256, 512, 1024, 2048)


def max_embedding_tokens(n_ctx: int) -> int:
    """The longest text, in tokens, for a model with this context."""
    return min(n_ctx, STEPS[-1])


def embedding_context_size(tokens: int, n_ctx: int) -> int:
    """The context size for a text of this many tokens, up to `max_embedding_tokens`."""
    return min(next(size for size in STEPS if size >= tokens), max_embedding_tokens(n_ctx))


def embedding_context_params(tokens: int, n_ctx: int) -> dict[str, Any]:
    """The fields of llama_context_params that determine its memory."""
    size = embedding_context_size(tokens, n_ctx)
    return {"n_ctx": size, "n_batch": size, "n_ubatch": size, "n_seq_max": 1, "embeddings": True, "no_perf": True}
