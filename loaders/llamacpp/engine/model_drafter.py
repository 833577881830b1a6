"""Drafts of a draft model for one reply: guessed token by token, for as long as another guess is expected to pay.

Each guess is what the reply's samplers would choose from the draft model's logits with the random numbers of its place,
so it is mostly right at any temperature. It must not know how guesses are checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container

import numpy as np

from errors import UserError
from loaders.drafting.drafted import DraftedTokens
from loaders.drafting.model_policy import ModelPolicy, StepPlan
from loaders.llamacpp.engine.draft_model import DraftModel
from loaders.llamacpp.engine.sequence_slot import SequenceSlot
from loaders.logits import Floats

#: So many unread tokens are read with the first guess; more are a prompt.
FEW = 8


class ModelDrafter:
    """For one growing text."""

    def __init__(
        self,
        model: DraftModel,
        slot: SequenceSlot,
        policy: ModelPolicy,
        guess: Callable[[Floats, int], int],
        ends: Container[int],
    ) -> None:
        """`guess` chooses a token from logits, shape (n_vocab,), so many positions ahead. Nothing follows `ends`."""
        self._model = model
        self._slot = slot
        self._policy = policy
        self._guess = guess
        self._ends = ends
        self.ready = False  # whether at most a few tokens are unread

    def close(self) -> None:
        self._model.release(self._slot)

    def read(self, ids: list[int], plan: StepPlan, so_far: int, left: int) -> bool:
        """Read a piece of what is unread, if that is expected to pay; returns `ready`."""
        self.ready = self._read(self._model.follow(self._slot, ids), ids, plan, so_far, left)
        return self.ready

    def _read(self, behind: int, ids: list[int], plan: StepPlan, so_far: int, left: int) -> bool:
        if behind <= FEW:
            return True
        if not self._policy.worth_reading(behind, plan.replies, so_far, left):
            return False
        count = min(behind - 1, self._model.n_batch, self._policy.piece(plan.replies))
        logits, seconds = self._model.read(self._slot, ids[len(self._slot.ids) :][:count])
        if logits is None:
            return False
        self._policy.note_reading(count, seconds)
        return behind - count <= FEW

    def propose(self, ids: list[int], most: int, plan: StepPlan, each: int) -> DraftedTokens | None:
        """At most `most` tokens that could follow, counted in the `plan` of the step; None if none are worth it.

        `each`: how many rows a token takes.
        """
        found: list[int] = []
        degrees: list[int] = []
        chance = 1.0
        self._model.follow(self._slot, ids)
        unread = ids[len(self._slot.ids) :]
        while len(found) < most and self._policy.pays(plan, each, chance, len(unread)):
            started = time.monotonic()
            logits, _ = self._model.read(self._slot, unread)
            if logits is None:
                self.ready = False
                break
            try:
                token = self._guess(logits, len(found))
            except UserError:  # its numbers are of no use
                break
            found.append(token)
            degrees.append(self._policy.chances.degree(_probability(logits, token)))
            self._policy.price.note(len(unread), time.monotonic() - started)
            plan.seconds += self._policy.price.seconds(len(unread))
            chance *= self._policy.chances.of(degrees[-1])
            plan.add(each, chance)
            if token in self._ends:
                break
            unread = [token]
        return DraftedTokens(found, kinds=tuple(degrees)) if found else None


def _probability(logits: Floats, token: int) -> float:
    """The probability of a token, without samplers."""
    return float(1 / np.exp(logits - logits[token]).sum(dtype=np.float64))
