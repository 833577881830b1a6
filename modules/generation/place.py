"""A place in a text: what the model offers there, kept so that the samplers can be looked at without running it again.

It holds logits and ids, and runs the sampler stack that replies are drawn with. It must not know how a place is shown.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from errors import Unsupported
from loaders.base import Model
from loaders.params import SamplingParams
from loaders.sampling import SamplerChain, Stage, breaker_ids
from modules.generation.token_view import Shown, shown

#: What the model computes with, so that a change of it needs a new look.
_COMPUTED = ("guidance_scale", "negative_prompt", "add_bos_token")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may come next; `logprob` is the natural logarithm of its probability."""

    token: Shown
    probability: float
    logprob: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """The likeliest tokens, best first. `left`: how many may be drawn at all; `entropy` in bits."""

    candidates: tuple[Candidate, ...]
    left: int
    entropy: float
    sampled: bool
    notes: tuple[str, ...] = ()


@dataclass
class Place:
    """The end of a prompt. `logits` has the shape (n_vocab,) and is only read; `seconds` is what the model took."""

    model: Model
    text: str
    ids: list[int]
    params: SamplingParams  # those that the logits were computed with
    logits: npt.NDArray[np.float32]
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    id: int = field(default_factory=itertools.count(1).__next__)  # of this run of the program
    _shown: dict[int, Shown] = field(default_factory=dict, repr=False)
    _grammar: tuple[str, npt.NDArray[np.bool_] | None] = ("", None)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def token(self, id: int) -> Shown:
        """A token as it can be seen. Raises: ModelClosed."""
        found = self._shown.get(id)
        if found is None:
            found = self._shown[id] = shown(self.model.tokenizer, id)
        return found

    def distribution(self, params: SamplingParams, *, sampled: bool, count: int = 50) -> Distribution:
        """The model's own distribution, or what a reply is drawn from. Raises: UserError."""
        notes = self.stale(params)
        if sampled:
            chain, mask = self._chain(params, notes)
            ids, probabilities = chain.distribution(self.logits, mask)
        else:
            exps = np.exp(self.logits - self.logits.max())
            ids, probabilities = np.arange(len(exps)), exps / exps.sum()
        likely = probabilities[probabilities > 0]
        entropy = -float((likely * np.log2(likely)).sum(dtype=np.float64))
        best = _best(probabilities, count)
        found = tuple(
            Candidate(self.token(int(ids[at])), float(probabilities[at]), math.log(float(probabilities[at])))
            for at in best
            if probabilities[at] > 0
        )
        left = int(np.count_nonzero(self.logits > -np.inf)) if not sampled else len(likely)
        return Distribution(found, left, max(entropy, 0.0), sampled, tuple(notes))

    def stages(self, params: SamplingParams, notes: list[str] | None = None, *, top: int = 12) -> list[Stage]:
        """What each step of the stack does here, in the user's order; the model's own distribution comes first.

        Sentences about what is not shown are appended to `notes`. Raises: UserError.
        """
        notes = [] if notes is None else notes
        notes += self.stale(params)
        chain, mask = self._chain(params, notes)
        return chain.stages(self.logits, mask, top=top)

    def stale(self, params: SamplingParams) -> list[str]:
        """A sentence for each knob that has changed since and that the model itself computes with."""
        now, then = _computed(self.model, params), _computed(self.model, self.params)
        return [f"{name} has changed since: press Look to compute it anew." for name in now if now[name] != then[name]]

    def _chain(self, params: SamplingParams, notes: list[str]) -> tuple[SamplerChain, npt.NDArray[np.bool_] | None]:
        tokenizer = self.model.tokenizer
        chain = SamplerChain(
            params,
            seed=params.seed,
            n_vocab=len(self.logits),
            prompt_ids=self.ids,
            context_length=self.model.context_length,
            newline_ids=tokenizer.encode("\n")[-1:],
            end_ids=tokenizer.end_ids,
            breaker_ids=breaker_ids(params, tokenizer.encode),
            warnings=notes,
        )
        return chain, self._mask(params.grammar_string, notes)

    def _mask(self, grammar: str, notes: list[str]) -> npt.NDArray[np.bool_] | None:
        """What the grammar lets a reply begin with; asked once for a grammar, for it takes a while."""
        if not grammar.strip():
            return None
        with self._lock:
            if self._grammar[0] != grammar:
                try:
                    self._grammar = (grammar, self.model.grammar_start(grammar))
                except Unsupported as error:
                    notes.append(f"grammar_string has no effect: {error}")
                    return None
            return self._grammar[1]


def _best(probabilities: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """Positions of the largest ones, best first; of equal ones the first."""
    if len(probabilities) > 4 * count:
        edge = np.partition(probabilities, len(probabilities) - count)[len(probabilities) - count]
        part = np.flatnonzero(probabilities >= edge)
    else:
        part = np.arange(len(probabilities))
    best: npt.NDArray[np.intp] = part[np.argsort(-probabilities[part], kind="stable")[:count]]
    return best


def _computed(model: Model, params: SamplingParams) -> Mapping[str, object]:
    values = {name: getattr(params, name) for name in _COMPUTED}
    if params.guidance_scale == 1 or not model.supports("guidance_scale"):
        values["guidance_scale"], values["negative_prompt"] = 1, ""
    return values
