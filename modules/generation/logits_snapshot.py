"""The model's logits after a prompt, kept so that the samplers can be inspected without running the model again.

It holds logits and ids and runs the same sampler chain as replies. It must not know how the result is shown.
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
from loaders.base import Model, Request
from loaders.params import SamplingParams
from loaders.sampler import make_chain
from loaders.sampling import SamplerChain, SamplerStage
from modules.generation.token_view import VisibleToken, show_token

#: Knobs that the model itself computes with, so that changing one needs a new snapshot.
_COMPUTED = ("guidance_scale", "negative_prompt", "add_bos_token")


@dataclass(frozen=True, slots=True)
class TokenCandidate:
    """A possible next token; `logprob` is the natural logarithm of its probability."""

    token: VisibleToken
    probability: float
    logprob: float


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The most likely tokens, best first. `left`: how many can be drawn at all; `entropy` in bits."""

    candidates: tuple[TokenCandidate, ...]
    left: int
    entropy: float
    sampled: bool
    notes: tuple[str, ...] = ()


@dataclass
class LogitsSnapshot:
    """The state after a prompt. `logits` has the shape (n_vocab,) and is only read; `seconds` is the model's time."""

    model: Model
    text: str
    ids: list[int]
    params: SamplingParams  # those that the logits were computed with
    logits: npt.NDArray[np.float32]
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    id: int = field(default_factory=itertools.count(1).__next__)  # in this run of the program
    _shown: dict[int, VisibleToken] = field(default_factory=dict, repr=False)
    _grammar: tuple[str, npt.NDArray[np.bool_] | None] = ("", None)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def token(self, id: int) -> VisibleToken:
        """A token in visible form. Raises: ModelClosed."""
        found = self._shown.get(id)
        if found is None:
            found = self._shown[id] = show_token(self.model.tokenizer, id)
        return found

    def distribution(self, params: SamplingParams, *, sampled: bool, count: int = 50) -> NextTokens:
        """The model's own distribution, or the one that a reply is drawn from. Raises: UserError."""
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
            TokenCandidate(self.token(int(ids[at])), float(probabilities[at]), math.log(float(probabilities[at])))
            for at in best
            if probabilities[at] > 0
        )
        left = int(np.count_nonzero(self.logits > -np.inf)) if not sampled else len(likely)
        return NextTokens(found, left, max(entropy, 0.0), sampled, tuple(notes))

    def stages(self, params: SamplingParams, notes: list[str] | None = None, *, top: int = 12) -> list[SamplerStage]:
        """What each step of the chain does here, in the user's order; the model's own distribution comes first.

        Sentences about what is not shown are appended to `notes`. Raises: UserError.
        """
        notes = [] if notes is None else notes
        notes += self.stale(params)
        chain, mask = self._chain(params, notes)
        return chain.stages(self.logits, mask, top=top)

    def stale(self, params: SamplingParams) -> list[str]:
        """A sentence for each knob that the model itself computes with and that has changed since."""
        now, then = _computed(self.model, params), _computed(self.model, self.params)
        return [f"{name} has changed. Press Inspect to update the result." for name in now if now[name] != then[name]]

    def _chain(self, params: SamplingParams, notes: list[str]) -> tuple[SamplerChain, npt.NDArray[np.bool_] | None]:
        tokenizer = self.model.tokenizer
        request = Request(self.ids, params)
        chain = make_chain(request, tokenizer, tokenizer.end_ids, n_ctx=self.model.context_length, warnings=notes)
        return chain, self._mask(params.grammar_string, notes)

    def _mask(self, grammar: str, notes: list[str]) -> npt.NDArray[np.bool_] | None:
        """The tokens with which the grammar lets a reply begin; computed once per grammar, because it takes a while."""
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
    """Indices of the largest values, best first; of equal ones the first."""
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
