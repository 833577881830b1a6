"""Penalties for repetition: repetition, presence and frequency penalty, encoder penalty, repeated n-grams.

Each changes only a few logits: its cost depends on the window, not on the vocabulary. Definitions as in the original:
REFERENCE.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates, Ids
from loaders.sampling.selection import Floats
from loaders.sampling.state import SamplerState, SamplerStep

_MOST = 1e30  # a penalty and its inverse must be numbers in float32


def apply_repetition_penalty(c: Candidates, tokens: Ids, factor: float) -> None:
    """Divide positive logits of these distinct tokens by the factor and multiply negative ones (CTRL paper). Off: 1."""
    at, _ = c.where(tokens)
    if len(at):
        logits = c.logits[at]
        factor = max(1 / _MOST, min(factor, _MOST))
        c.put(at, np.where(logits < 0, logits * np.float32(factor), logits / np.float32(factor)))


def apply_additive_penalty(c: Candidates, tokens: Ids, amounts: Floats | float) -> None:
    """Subtract a value from the logits of these distinct tokens. Off: 0.

    For presence it is constant, for frequency multiplied by the token's number of occurrences (OpenAI's API).
    """
    at, which = c.where(tokens)
    if len(at):
        if isinstance(amounts, np.ndarray):
            amounts = np.clip(amounts if which is None else amounts[which], -_MOST, _MOST)
        else:
            amounts = max(-_MOST, min(amounts, _MOST))
        c.put(at, c.logits[at] - amounts)


def ban_tokens(c: Candidates, tokens: Ids) -> None:
    """Remove these distinct tokens; if no others are left, the best of them stays."""
    at, _ = c.where(tokens)
    if len(at):
        c.put(at, np.full(len(at), -np.inf, np.float32))


def ngram_completions(tokens: Ids, size: int) -> Ids:
    """The tokens that would complete an existing n-gram of this size (fairseq's no_repeat_ngram_size)."""
    end = len(tokens)
    if end < size:
        return np.empty(0, np.int64)
    if size == 1:
        found = tokens
    else:
        # `last`: positions where the last token of the current (n-1)-gram occurs earlier
        last = np.flatnonzero(tokens[size - 2 : end - 1] == tokens[end - 1]) + size - 2
        for back in range(1, size - 1):
            last = last[tokens[last - back] == tokens[end - 1 - back]]
        found = tokens[last + 1]
    found = np.unique(found)
    return found[found >= 0]


def _repetition(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    if (factor := p.repetition_penalty) == 1:
        return None
    window = state.window
    return SamplerStep(
        "repetition_penalty", f"{factor:g}", lambda c: apply_repetition_penalty(c, window.tokens, factor)
    )


def _presence(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    if not (amount := p.presence_penalty):
        return None
    window = state.window
    return SamplerStep("presence_penalty", f"{amount:g}", lambda c: apply_additive_penalty(c, window.tokens, amount))


def _frequency(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    if not (amount := p.frequency_penalty):
        return None
    window, each = state.window, np.float32(np.clip(amount, -_MOST, _MOST))
    return SamplerStep(
        "frequency_penalty", f"{amount:g}", lambda c: apply_additive_penalty(c, window.tokens, window.counts * each)
    )


def _encoder(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    if (factor := p.encoder_repetition_penalty) == 1:
        return None
    tokens = np.unique(state.prompt[state.prompt >= 0])
    return SamplerStep(
        "encoder_repetition_penalty", f"{factor:g}", lambda c: apply_repetition_penalty(c, tokens, 1 / factor)
    )


def _ngrams(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    if not (size := p.no_repeat_ngram_size):
        return None
    return SamplerStep(
        "no_repeat_ngram", f"{size}", lambda c: ban_tokens(c, ngram_completions(state.history.tokens, size))
    )


BUILDERS: Mapping[str, Callable[[SamplingParams, SamplerState], SamplerStep | None]] = {
    "repetition_penalty": _repetition,
    "presence_penalty": _presence,
    "frequency_penalty": _frequency,
    "encoder_repetition_penalty": _encoder,
    "no_repeat_ngram": _ngrams,
}


def window_size(p: SamplingParams, context_length: int) -> int:
    """How many of the last tokens the penalties and DRY look at."""
    return min(p.repetition_penalty_range or context_length, context_length)
