"""Converts logits to results: log-probabilities, guidance, and a token with its alternatives.

Every engine ends a step here. NumPy arrays in; nothing here knows of engines, torch or sampling.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from errors import NonFiniteLogits
from loaders.base import Alternative, Token, Tokenizer

Floats = npt.NDArray[np.float32]


def require_finite(logits: Floats) -> Floats:
    """Return the logits unchanged. Raises: NonFiniteLogits."""
    if np.isnan(logits).any():
        raise NonFiniteLogits
    return logits


def log_softmax(logits: Floats) -> Floats:
    """Natural-log probabilities, shape (n_vocab,) as given, a new array."""
    shifted: Floats = logits - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def token_logprob(logits: Floats, token: int) -> float:
    """The natural-log probability of one token, without an array for all of them. Raises: NonFiniteLogits."""
    best = logits.max()
    total = np.exp(logits - best).sum()
    if not np.isfinite(total):
        raise NonFiniteLogits
    return float(logits[token] - best - np.log(total))


def apply_cfg(conditional: Floats, unconditional: Floats, scale: float) -> Floats:
    """CFG: u + scale * (c - u) on the log-softmaxes c and u of both branches, shape (n_vocab,), a new array.

    Source: Sanchez et al. 2023, arXiv 2306.17806.
    """
    c, u = log_softmax(conditional), log_softmax(unconditional)
    if u.min() == -np.inf:  # impossible on the negative branch: there is no difference, so the other branch counts
        u = np.where(u == -np.inf, c, u)
        u[u == -np.inf] = np.finfo(np.float32).min  # impossible on both: not more likely for that
    c -= u
    c *= np.float32(scale)
    c += u
    return c


def make_token(token: int, logits: Floats, tokenizer: Tokenizer, alternatives: int | None) -> Token:
    """The token as its reader gets it, with the requested number of alternatives (None: no log-probabilities)."""
    piece = tokenizer.piece(token, special=True)
    if alternatives is None:
        return Token(token, piece)
    logprobs = log_softmax(logits)
    count = min(alternatives, len(logprobs))
    best = np.argpartition(logprobs, -count)[-count:] if count else np.array([], np.int64)
    best = best[np.argsort(-logprobs[best], kind="stable")]
    others = tuple(Alternative(int(i), tokenizer.piece(int(i), special=True), float(logprobs[i])) for i in best)
    return Token(token, piece, float(logprobs[token]), others)
