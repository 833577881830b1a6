"""What the samplers of one request share: special tokens, the tokens so far, the random number of this position.

It knows no sampler; it only contains what several of them read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from loaders.sampling.candidates import Candidates, Ids
from loaders.sampling.selection import Floats


@dataclass(frozen=True, slots=True)
class SamplerStep:
    """One sampler of the chain: its name in `sampler_priority`, its setting as text, and its function on candidates."""

    name: str
    value: str
    apply: Callable[[Candidates], None]


class TokenHistory:
    """The tokens so far, prompt first, in one growing array."""

    def __init__(self, tokens: Ids) -> None:
        self._buffer = np.empty(len(tokens) + 1024, np.int64)
        self._buffer[: len(tokens)] = tokens
        self._length = len(tokens)

    @property
    def tokens(self) -> Ids:
        return self._buffer[: self._length]

    def append(self, token: int) -> None:
        if self._length == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[self._length] = token
        self._length += 1


class TokenWindow:
    """How often each token occurs among the last `size` tokens; each new token has the same cost."""

    def __init__(self, tokens: Ids, size: int) -> None:
        last = tokens[-size:]
        self._last = deque(last.tolist(), maxlen=size)
        tokens, counts = np.unique(last[last >= 0], return_counts=True)
        self._length = len(tokens)
        self._tokens = np.concatenate([tokens, np.empty(256, np.int64)])
        self._counts = np.concatenate([counts.astype(np.float32), np.empty(256, np.float32)])
        self._slot = {token: slot for slot, token in enumerate(tokens.tolist())}

    @property
    def tokens(self) -> Ids:
        """The distinct tokens of the window."""
        return self._tokens[: self._length]

    @property
    def counts(self) -> Floats:
        """The number of occurrences of each of `tokens`."""
        return self._counts[: self._length]

    def append(self, token: int) -> None:
        if len(self._last) == self._last.maxlen:
            self._drop(self._last[0])
        self._last.append(token)
        if token < 0:
            return
        slot = self._slot.get(token)
        if slot is not None:
            self._counts[slot] += 1
            return
        if self._length == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
            self._counts = np.concatenate([self._counts, np.empty_like(self._counts)])
        self._tokens[self._length] = token
        self._counts[self._length] = 1
        self._slot[token] = self._length
        self._length += 1

    def _drop(self, token: int) -> None:
        slot = self._slot.get(token)
        if slot is None:
            return
        self._counts[slot] -= 1
        if self._counts[slot] == 0:  # the last one takes its place
            self._length -= 1
            moved = int(self._tokens[self._length])
            self._tokens[slot], self._counts[slot] = moved, self._counts[self._length]
            self._slot[moved] = slot
            del self._slot[token]


class SamplerState:
    """The state of one request's samplers. A token id outside of the vocabulary is stored as -1."""

    def __init__(
        self,
        *,
        n_vocab: int,
        prompt_ids: Sequence[int] | Ids,
        window: int,
        newline_ids: Iterable[int] = (),
        end_ids: Iterable[int] = (),
        breaker_ids: frozenset[int] = frozenset(),
        reply_ids: Ids | None = None,
    ) -> None:
        """`window`: how many of the last tokens the repetition samplers look at; `reply_ids`: the reply so far."""
        prompt = np.asarray(prompt_ids, np.int64)
        self.n_vocab = n_vocab
        self.prompt: Ids = np.where((prompt >= 0) & (prompt < n_vocab), prompt, -1)
        self.window_size = max(window, 1)
        self.end: Ids = np.fromiter((i for i in end_ids if 0 <= i < n_vocab), np.int64)
        self.structure = frozenset(newline_ids) | frozenset(self.end.tolist())  # tokens that XTC never removes
        self.breaker_ids = breaker_ids
        self.history = TokenHistory(self.prompt if reply_ids is None else np.concatenate([self.prompt, reply_ids]))
        self.xtc_draw = 0.0  # random, 0 to 1, new at every position: whether XTC acts at this one
        self._listeners: list[Callable[[int], None]] = []

    @cached_property
    def window(self) -> TokenWindow:
        window = TokenWindow(self.history.tokens, self.window_size)
        self.listen(window.append)
        return window

    def listen(self, listener: Callable[[int], None]) -> None:
        """Call this with every new token, after it was added to the history."""
        self._listeners.append(listener)

    def accept(self, token: int) -> None:
        known = token if 0 <= token < self.n_vocab else -1
        self.history.append(known)
        for listener in self._listeners:
            listener(known)
