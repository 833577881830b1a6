"""From logits to what a reader gets: log-probabilities, guidance, and a token with its alternatives.

Every engine ends a step here. NumPy arrays in; nothing here knows of engines, of torch or of sampling.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from errors import NotNumbers
from loaders.base import Alternative, Token, Tokenizer

Floats = npt.NDArray[np.float32]


def checked(logits: Floats) -> Floats:
    """The logits as they are. Raises: NotNumbers."""
    if np.isnan(logits).any():
        raise NotNumbers
    return logits


def log_softmax(logits: Floats) -> Floats:
    """Natural-log probabilities, shape (n_vocab,) as given, a new array."""
    shifted: Floats = logits - logits.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def logprob_of(logits: Floats, token: int) -> float:
    """The natural-log probability of one token, without an array for all of them. Raises: NotNumbers."""
    best = logits.max()
    total = np.exp(logits - best).sum()
    if not np.isfinite(total):
        raise NotNumbers
    return float(logits[token] - best - np.log(total))


def guided(conditional: Floats, unconditional: Floats, scale: float) -> Floats:
    """CFG: u + scale * (c - u) on the log-softmaxes c and u of both branches, shape (n_vocab,), a new array.

    Source: Sanchez et al. 2023, arXiv 2306.17806.
    """
    c, u = log_softmax(conditional), log_softmax(unconditional)
    if u.min() == -np.inf:  # what the negative branch rules out has no difference to it: the other one's word counts
        u = np.where(u == -np.inf, c, u)
        u[u == -np.inf] = np.finfo(np.float32).min  # ruled out by both: no more likely for it
    c -= u
    c *= np.float32(scale)
    c += u
    return c


def describe(token: int, logits: Floats, tokenizer: Tokenizer, alternatives: int | None) -> Token:
    """The token as its reader gets it, with as many alternatives as were asked for (None: no log-probabilities)."""
    piece = tokenizer.piece(token, special=True)
    if alternatives is None:
        return Token(token, piece)
    logprobs = log_softmax(logits)
    count = min(alternatives, len(logprobs))
    best = np.argpartition(logprobs, -count)[-count:] if count else np.array([], np.int64)
    best = best[np.argsort(-logprobs[best], kind="stable")]
    others = tuple(Alternative(int(i), tokenizer.piece(int(i), special=True), float(logprobs[i])) for i in best)
    return Token(token, piece, float(logprobs[token]), others)
