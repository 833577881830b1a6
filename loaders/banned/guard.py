"""Keeps banned strings out of one reply: holds tokens back while a string may be beginning, and decides where to go
back to when one is complete.

The first token of the string is banned at its place, and the reply continues from there. It must not know how tokens
are computed or chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from loaders.banned.pattern import BannedPattern
from loaders.banned.text_scan import LONGEST_MATCH, TextPosition, TextScan
from loaders.base import Token, Tokenizer
from loaders.logits import Floats

#: Tokens that are tried at one place before the string is let through, and of those, how many may cost steps.
_MOST_TRIES, _MOST_RETURNS = 400, 40
#: Tokens that may be taken back without any that stay, and for each one that stays.
_ALLOWANCE, _SHARE = 400, 4
#: The same for tokens that are tried: each costs the time of the samplers, for which all replies wait.
_TRIES, _TRIES_SHARE = 400, 8


@dataclass(slots=True)
class HeldToken:
    """A token that its reader does not have yet. `raw` and `logits`: what it was chosen from, if it may be replaced."""

    id: int
    before: TextPosition
    raw: Floats | None = None
    logits: Floats | None = None
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """Choose again at the place `dropped` tokens back, among all but `banned`; `attempt` counts from 1 there."""

    dropped: int
    raw: Floats
    logits: Floats
    banned: frozenset[int]
    attempt: int


@dataclass(slots=True)
class _Place:
    """What was tried at one place: the tokens that are banned there now, and how often this cost steps."""

    banned: set[int] = field(default_factory=set)
    returns: int = 0


class BanGuard:
    """For one reply. A place is the index of a token in it."""

    def __init__(
        self,
        pattern: BannedPattern,
        tokenizer: Tokenizer,
        end_ids: Iterable[int],
        prompt: Sequence[int],
        warnings: list[str],
    ) -> None:
        """What cannot be avoided goes to `warnings`."""
        self._scan = TextScan(pattern)
        self._tokenizer = tokenizer
        self._ends = frozenset(end_ids)
        self._warnings = warnings
        self._at = self._after(prompt)
        self._held: list[HeldToken] = []
        self._first = 0  # the place of the first held token
        self._places: dict[int, _Place] = {}
        self._failed = 0
        #: How many tokens were taken back after they had been computed, and how often a token was replaced.
        self.taken_back = self.replaced = 0

    @property
    def held(self) -> int:
        """How many chosen tokens the reader does not have yet."""
        return len(self._held)

    @property
    def place(self) -> int:
        """That of the next token."""
        return self._first + len(self._held)

    def offer(self, token: int, raw: Floats, logits: Floats) -> Return | None:
        """Accept the token chosen for the next place (None), or say where to choose again.

        `raw` are the model's logits, `logits` those that the samplers got; they are copied if needed. An end token
        ends the reply.
        """
        place, ends = self.place, token in self._ends
        while True:
            if ends:
                after, found = self._at, self._scan.ending(self._at)
            else:
                after, found = self._scan.advance(self._at, self._tokenizer.piece(token), place)
            if found is None:
                break
            if again := self._go_back(max(found, 0), token, raw, logits):
                return again
        if ends:
            return None
        held = HeldToken(token, self._at)
        begins = (place in (begun, 0) for _, begun, _ in after.open)
        if any(begins) or (after.rest and after.rest_place == place):
            held.raw = raw.copy()
            held.logits = held.raw if logits is raw else logits.copy()
        self._held.append(held)
        self._at = after
        return None

    def _go_back(self, place: int, token: int, raw: Floats, logits: Floats) -> Return | None:
        """Go back to a place and ban its token there. None if that is not possible: then no string begins there."""
        dropped = self.place - place
        held = self._held[place - self._first] if dropped else None
        if held is not None:
            assert held.raw is not None
            assert held.logits is not None
            raw, logits, token = held.raw, held.logits, held.id
        tried = self._places.setdefault(place, _Place())
        returns = tried.returns + (dropped > 0)
        spent = (
            self.taken_back + dropped > _ALLOWANCE + _SHARE * place or self.replaced >= _TRIES + _TRIES_SHARE * place
        )
        possible = np.flatnonzero(logits > -np.inf)[: len(tried.banned) + 2]
        forced = set(possible.tolist()) <= tried.banned | {token}
        if spent or forced or returns > _MOST_RETURNS or len(tried.banned) >= _MOST_TRIES:
            self.let_through(place)
            return None
        tried.banned.add(token)
        tried.returns = returns
        if held is not None:
            self._forget_after(place, held)
        self.taken_back += dropped
        self.replaced += 1
        return Return(dropped, raw, logits, frozenset(tried.banned), len(tried.banned))

    def _forget_after(self, place: int, held: HeldToken) -> None:
        self._at = held.before
        del self._held[place - self._first :]
        for later in [each for each in self._places if each > place]:
            del self._places[later]
        self._scan.skip = {each for each in self._scan.skip if each <= place}

    def let_through(self, place: int | None = None) -> None:
        """No string that begins at this place (without one: the next) can be avoided."""
        place = self.place if place is None else place
        self._scan.skip.add(place)
        if place == 0:
            self._scan.skip.add(-1)
        self._at = _without(self._at, self._scan.skip)
        self._places.pop(place, None)
        self._failed += 1

    def note(self, token: Token) -> list[Token]:
        """The last accepted token as its reader gets it; returns those that the reader may have now."""
        self._held[-1].token = token
        return self._release(self._first_needed())

    def _first_needed(self) -> int:
        """The first place that may have to be gone back to.

        A string that has come to nothing after a place may come to something again if that place is gone back to.
        """
        first, at = self.place, self._at
        for place in range(self.place, self._first - 1, -1):
            if place < first or first <= self._first:
                break
            if place < self.place:
                at = self._held[place - self._first].before
            if (earliest := at.earliest) is not None:
                first = min(first, max(earliest, 0))
        return first

    def finish(self) -> list[Token]:
        """The reply ends here: the held tokens that its reader still gets, without a string that is complete now."""
        found = self._scan.ending(self._at)
        left = self._release(self.place if found is None else max(found, 0))
        self.taken_back += len(self._held)
        self._held.clear()
        if self._failed:
            times = f"{self._failed} times" if self._failed > 1 else "once"
            self._warnings.append(
                f"A banned string could not be avoided ({times}): nothing else was possible or likely enough there."
            )
            self._failed = 0
        return left

    def _release(self, place: int) -> list[Token]:
        """The held tokens before this place."""
        count = max(place - self._first, 0)
        released = [held.token for held in self._held[:count] if held.token is not None]
        del self._held[:count]
        self._first += count
        for earlier in [each for each in self._places if each < self._first]:
            del self._places[earlier]
        return released

    def _after(self, prompt: Sequence[int]) -> TextPosition:
        """The position at the end of the prompt: a string may have begun there after the last control token, as many
        characters before the end as a match may have.
        """
        pieces: list[bytes] = []
        left = LONGEST_MATCH
        for token in reversed(prompt):
            if left <= 0 or self._tokenizer.is_special(token):
                break
            pieces.append(self._tokenizer.piece(token))
            left -= sum(byte & 0xC0 != 0x80 for byte in pieces[-1])  # where characters begin in UTF-8
        return self._scan.advance(TextPosition(), b"".join(reversed(pieces)), -1)[0]


def _without(at: TextPosition, skip: set[int]) -> TextPosition:
    kept = tuple(thread for thread in at.open if thread[1] not in skip)
    return TextPosition(kept, at.length, at.before, at.rest, at.rest_place)


def allowed_mask(n_vocab: int, banned: frozenset[int]) -> npt.NDArray[np.bool_]:
    """True for all tokens but these, shape (n_vocab,)."""
    mask = np.ones(n_vocab, bool)
    mask[list(banned)] = False
    return mask
