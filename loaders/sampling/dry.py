"""DRY (p-e-w, 2024): penalizes tokens that would extend a repetition, more so the longer it has become.

A token that followed an earlier sequence of n tokens equal to the last n ones is lowered by
multiplier * base^(n - allowed length), for n from the allowed length on. A sequence does not extend across a breaker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loaders.list_parsing import parse_quoted_strings
from loaders.params import SamplingParams
from loaders.sampling.candidates import Candidates, Ids
from loaders.sampling.penalties import apply_additive_penalty
from loaders.sampling.selection import Floats
from loaders.sampling.state import SamplerState, SamplerStep

_LONGEST = 50  # a longer match counts as this length, as in the original


class RepeatIndex:
    """The lengths of all earlier sequences that equal the end of the text, updated with each new token.

    `_lengths[d - 1]` belongs to the sequence that ends d tokens back. When a token is added, every sequence ends d
    tokens back from it too, one longer if the tokens are equal and of length 0 if not: one pass over bytes.
    """

    def __init__(self, state: SamplerState) -> None:
        self._history = state.history
        self._size = state.window_size
        self._breakers = state.breaker_ids
        self._lengths = np.zeros(min(self._size, len(state.history.tokens) + 1024), np.uint8)
        self._found: tuple[Ids, Ids] | None = None
        # because no match counts beyond 50, the last 50 tokens determine all lengths
        length = len(state.history.tokens)
        for end in range(max(length - _LONGEST, 0), length):
            self._follow(end)
        state.listen(self._listen)

    def found(self) -> tuple[Ids, Ids]:
        """The tokens that would extend a repetition, each once, and the length of the longest one before it."""
        if self._found is None:
            tokens = self._history.tokens
            back = np.flatnonzero(self._lengths[: self._reach(len(tokens) - 1)]) + 1
            # nothing outside of the window is matched
            lengths = np.minimum(self._lengths[back - 1], self._size - back).astype(np.int64)
            following = tokens[len(tokens) - back]
            known = (following >= 0) & (lengths > 0)
            ids, which = np.unique(following[known], return_inverse=True)
            longest = np.zeros(len(ids), np.int64)
            np.maximum.at(longest, which, lengths[known])
            self._found = ids, longest
        return self._found

    def _listen(self, _: int) -> None:
        self._found = None
        self._follow(len(self._history.tokens) - 1)

    def _reach(self, end: int) -> int:
        return max(min(end, self._size - 1), 0)

    def _follow(self, end: int) -> None:
        """Update the lengths to the text that ends with the token at this position."""
        tokens = self._history.tokens
        reach = self._reach(end)
        if reach > len(self._lengths):
            self._lengths = np.concatenate([self._lengths, np.zeros(max(reach, 1024), np.uint8)])
        lengths = self._lengths[:reach]
        if int(tokens[end]) in self._breakers:
            lengths[:] = 0
            return
        lengths += 1
        lengths *= tokens[end - reach : end][::-1] == tokens[end]
        np.minimum(lengths, _LONGEST, out=lengths)


def apply_dry(c: Candidates, repeats: RepeatIndex, multiplier: float, base: float, allowed: int) -> None:
    """Apply the module's formula. Off: multiplier 0."""
    tokens, lengths = repeats.found()
    enough = lengths >= allowed
    if enough.any():
        apply_additive_penalty(c, tokens[enough], _amounts(lengths[enough] - allowed, multiplier, base))


def _amounts(excess: Ids, multiplier: float, base: float) -> Floats:
    powers = np.power(float(base), excess.astype(np.float64))
    return np.minimum(multiplier * powers, 1e30).astype(np.float32)


def find_breaker_ids(
    params: SamplingParams,
    encode: Callable[[str], Sequence[int]],
    piece: Callable[[int], bytes] | None = None,
    n_vocab: int = 0,
) -> frozenset[int]:
    """The tokens at which matches end, from the user's strings: the last token of "a" + string, as in the original.

    With `piece`, also every token of the vocabulary whose bytes contain one of the strings, as in llama.cpp. This reads
    every token once: keep the result for as long as model and strings stay the same. Empty if DRY is off. Raises:
    InvalidInput if the strings cannot be parsed.
    """
    if params.dry_multiplier <= 0:
        return frozenset()
    strings = parse_quoted_strings(params.dry_sequence_breakers, bare=True)
    ids = {encoded[-1] for string in strings if (encoded := encode("a" + string))}
    if piece:
        wanted = [string.encode("utf-8", "surrogatepass") for string in strings]
        for token in range(n_vocab):
            data = piece(token)
            if any(string in data for string in wanted):
                ids.add(token)
    return frozenset(ids)


def _dry(p: SamplingParams, state: SamplerState) -> SamplerStep | None:
    multiplier, base, allowed = p.dry_multiplier, p.dry_base, p.dry_allowed_length
    if multiplier <= 0:
        return None
    repeats = RepeatIndex(state)
    value = f"{multiplier:g} * {base:g}^(n - {allowed})"
    return SamplerStep("dry", value, lambda c: apply_dry(c, repeats, multiplier, base, allowed))


BUILDERS: Mapping[str, Callable[[SamplingParams, SamplerState], SamplerStep | None]] = {"dry": _dry}
