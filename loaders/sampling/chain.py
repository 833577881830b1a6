"""From SamplingParams to a token: the one sampler stack that every loader uses, in the user's order, for one request.

It sees logits and token ids only: nothing of texts, contexts or engines. All state and all chance belong to the
request, so the same seed, prompt and settings give the same choices whatever else is running. `choose` and `stages`
change nothing; only `accept` moves on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from errors import EngineFailed, InvalidInput, NotNumbers
from loaders.lists import token_ids
from loaders.params import SAMPLERS, SamplingParams
from loaders.sampling import adaptive, cuts, dry, mirostat, penalties, temperature, xtc
from loaders.sampling.candidates import Candidates, Ids, Scratch
from loaders.sampling.run import Run, Step
from loaders.sampling.selection import Floats, largest

#: Knobs that shape what is sampled from, or search instead of drawing: the loaders' business, not the stack's.
ELSEWHERE: frozenset[str] = frozenset(
    (
        "guidance_scale",
        "negative_prompt",
        "penalty_alpha",
        "num_beams",
        "length_penalty",
        "early_stopping",
        "prompt_lookup_num_tokens",
        "grammar_string",
    )
)

_BUILDERS: Mapping[str, Callable[[SamplingParams, Run], Step | None]] = {
    **penalties.BUILDERS,
    **dry.BUILDERS,
    **temperature.BUILDERS,
    **cuts.BUILDERS,
    **xtc.BUILDERS,
}
_GREEDY_TOO = {**penalties.BUILDERS, **dry.BUILDERS}  # what acts where nothing is left to chance
_DRAWING = ("mirostat", "adaptive_p")  # they learn from the draw, so they come right before it


#: Beyond it a bias is as good as infinite.
_FAR = 1e30


@dataclass(frozen=True, slots=True)
class Stage:
    """What one step did: for a look inside the samplers. Tokens come with their probabilities, best first."""

    name: str  # as in sampler_priority, or "model", "bans", "grammar", "greedy"
    value: str  # its setting
    kept: int
    removed: int
    top: tuple[tuple[int, float], ...]  # the best that are left, with the probabilities they have now
    gone: tuple[tuple[int, float], ...]  # the best that were removed, with the probabilities they had before
    taken: float  # the probability that all removed ones had before, together
    moved: float  # the probability that went from some tokens to others: the total variation distance, 0 to 1
    probabilities: Floats = field(repr=False, compare=False)  # after it, of the whole vocabulary: shape (n_vocab,)


def draw_seed(seed: int) -> int:
    """The seed to use: the given one, or a random one for -1."""
    return seed if seed >= 0 else random.SystemRandom().randint(1, 2**31 - 1)


def order(params: SamplingParams, warnings: list[str] | None = None) -> list[str]:
    """The steps in the order in which they work: the user's; those that it leaves out stand at their usual place.

    A step that is left out comes right after the one that it follows in the default order.
    """
    steps = list(dict.fromkeys(name for name in params.sampler_priority if name in SAMPLERS))
    strange = [name for name in params.sampler_priority if name not in SAMPLERS]
    if strange and warnings is not None:
        warnings.append(f"sampler_priority names no sampler with {', '.join(strange)[:100]}: this was left out.")
    for i, name in enumerate(SAMPLERS):
        if name not in steps:
            steps.insert(steps.index(SAMPLERS[i - 1]) + 1 if i else 0, name)
    steps.sort(key=lambda name: temperature.comes_last(params, name))  # stable: only these move
    return steps


class SamplerChain:
    """The samplers of one request, with their state. Not to be used by two threads at once."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        n_vocab: int,
        seed: int,
        prompt_ids: Sequence[int] | Ids = (),
        context_length: int = 2**31,
        newline_ids: Iterable[int] = (),
        end_ids: Iterable[int] = (),
        breaker_ids: frozenset[int] = frozenset(),
        logit_bias: Mapping[int, float] | None = None,
        warnings: list[str] | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """`context_length` stands for a range of "all"; `breaker_ids` come from `dry.breaker_ids`.

        Chains that one thread uses in turn may share a `scratch`, which then stays in the processor's cache.
        What cannot be honoured is appended to `warnings`. Raises: InvalidInput.
        """
        warnings = [] if warnings is None else warnings
        self.seed = draw_seed(seed)
        self._params = params
        self._run = Run(
            n_vocab=n_vocab,
            prompt_ids=prompt_ids,
            window=penalties.window_size(params, context_length),
            newline_ids=newline_ids,
            end_ids=end_ids,
            breaker_ids=breaker_ids,
        )
        self._bias = _bias(n_vocab, params, logit_bias or {}, self._run.end, warnings)
        self._min_length = params.min_length if len(self._run.end) else 0
        self._greedy = temperature.without_chance(params)
        self._draw: mirostat.Mirostat | adaptive.Adaptive | None = None
        if not self._greedy:
            self._draw = mirostat.make(params, self._run)
            adapts = adaptive.make(params)
            if self._draw and adapts:
                warnings.append("adaptive-p does nothing while mirostat is on: both would choose the token.")
            self._draw = self._draw or adapts
        builders = _GREEDY_TOO if self._greedy else _BUILDERS
        built = (builders[name](params, self._run) for name in order(params, warnings) if name in builders)
        self._steps = [step for step in built if step]
        self._scratch = scratch or Scratch(n_vocab)
        self._new_tokens = 0
        self._chance = np.random.Generator(np.random.PCG64(self.seed))
        self._chosen: tuple[int, float] | None = None  # the last choice and the probability to learn from
        self._next_place()

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps that act, in their order. Neutral knobs have none."""
        return tuple(step.name for step in self._steps) + ((self._draw.name,) if self._draw else ())

    def choose(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None) -> int:
        """Choose the next token from the model's logits, shape (n_vocab,), which are only read.

        `allowed`, of the same shape, leaves only these tokens to choose from. Until `accept` is called, the same
        logits give the same token, so a caller may look at a choice and then choose again among what it allows.

        Raises: EngineFailed, when logits are not numbers or no token is left.
        """
        with np.errstate(all="ignore"):
            c = self._begin(logits, allowed)
            if self._greedy and not self._steps:
                at = int(c.logits.argmax())  # which is that of a NaN, if there is any
                _check(float(c.logits[at]))
                return at
            _check(c.best)
            for step in self._steps:
                step.apply(c)
            if self._greedy:
                return int(c.ids[c.logits.argmax()])
            before = self._draw.apply(c) if self._draw else None
            # what was refused was refused for where its chance fell: the same again would favour its neighbours
            at = c.pick(self._draw_chance if allowed is None else self._second_chance)
            token = int(c.ids[at])
            self._chosen = None if before is None else (token, float(before[at]))
            return token

    def accept(self, token: int) -> None:
        """Go on to the next place. A token other than the last choice teaches mirostat and adaptive-p nothing."""
        if self._draw and self._chosen and self._chosen[0] == token:
            self._draw.learn(self._chosen[1])
        self._chosen = None
        self._run.accept(token)
        self._new_tokens += 1
        self._next_place()

    def distribution(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None) -> tuple[Ids, Floats]:
        """What `choose` draws from at this place: token ids and their probabilities, in no certain order.

        Raises: EngineFailed, as `choose` does.
        """
        with np.errstate(all="ignore"):
            c = self._begin(logits, allowed)
            _check(c.best)
            for _, _, apply in self._all_steps():
                apply(c)
            left = np.flatnonzero(c.logits > -np.inf)
            return c.ids[left], c.probabilities[left]

    def processed(self, logits: Floats) -> Floats:
        """The logits after all steps, shape (n_vocab,), a new array; a removed token has -inf.

        Without chance (do_sample off) these are the penalties' alone: nothing is cut to the best one.
        Raises: EngineFailed, as `choose` does.
        """
        with np.errstate(all="ignore"):
            c = self._begin(logits, None)
            _check(c.best)
            for step in self._steps:
                step.apply(c)
            if self._draw:
                self._draw.apply(c)
            out = np.full(self._run.n_vocab, -np.inf, np.float32)
            out[c.ids] = c.logits
            return out

    def stages(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None, top: int = 20) -> list[Stage]:
        """Every step with what it did to these logits: first the model's own distribution, then in the user's order.

        XTC is shown at work, whatever the coin of this place says. Raises: EngineFailed, as `choose` does.
        """
        coin, self._run.coin = self._run.coin, 0.0
        try:
            with np.errstate(all="ignore"):
                c = Candidates(self._given(logits), self._scratch)
                _check(c.best)
                found = [Stage("model", "", c.count, 0, _top(c, top), (), 0.0, 0.0, c.probabilities)]
                steps: list[tuple[str, str, Callable[[Candidates], object]]] = []
                if self._restricts(None):
                    steps.append(("bans", "", lambda c: self._restrict(c, None)))
                if allowed is not None:
                    steps.append(("grammar", "", lambda c: _only(c, allowed)))
                for name, value, apply in [*steps, *self._all_steps()]:
                    found.append(_watch(c, name, value, apply, top, found[-1].probabilities))
                return found
        finally:
            self._run.coin = coin

    def _all_steps(self) -> Iterable[tuple[str, str, Callable[[Candidates], object]]]:
        for step in self._steps:
            yield step.name, step.value, step.apply
        if self._draw:
            yield self._draw.name, self._draw.value, self._draw.apply
        if self._greedy:
            yield "greedy", "", lambda c: c.cut(np.array([c.logits.argmax()]))

    def _next_place(self) -> None:
        # always both, so that switching XTC on does not shift what is drawn elsewhere
        self._run.coin, self._draw_chance, self._second_chance = self._chance.random(3).tolist()

    def _given(self, logits: Floats) -> Floats:
        logits = np.ascontiguousarray(logits, np.float32)
        if logits.shape != (self._run.n_vocab,):
            raise ValueError(f"logits of shape {logits.shape}, not ({self._run.n_vocab},)")
        return logits

    def _begin(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None) -> Candidates:
        """The candidates after biases, bans and the least length, which come before all samplers."""
        c = Candidates(self._given(logits), self._scratch)
        if self._restricts(allowed):
            self._restrict(c, allowed)
        return c

    def _restricts(self, allowed: npt.NDArray[np.bool_] | None) -> bool:
        return self._bias is not None or allowed is not None or self._new_tokens < self._min_length

    def _restrict(self, c: Candidates, allowed: npt.NDArray[np.bool_] | None) -> None:
        if allowed is not None and self._over(allowed):
            _only(c, allowed)  # a ban of the end, or a least length, cannot make a finished grammar go on
            return
        logits = c.copied()
        if self._bias:
            logits[self._bias[0]] += self._bias[1]
        if self._new_tokens < self._min_length:
            logits[self._run.end] = -np.inf
        c.replace(logits)
        if allowed is not None:
            _only(c, allowed)

    def _over(self, allowed: npt.NDArray[np.bool_]) -> bool:
        """Whether a grammar allows nothing but the end."""
        count = int(np.count_nonzero(allowed))
        return count > 0 and count == int(np.count_nonzero(allowed[self._run.end]))


def _check(best: float) -> None:
    """Check the largest logit, which is NaN if any is. Raises: EngineFailed."""
    if best == -np.inf:
        raise EngineFailed("no allowed token is left to choose from. Loosen the bans or the grammar.")
    if not math.isfinite(best):
        raise NotNumbers


def _only(c: Candidates, allowed: npt.NDArray[np.bool_]) -> None:
    """Leave the allowed tokens of the whole vocabulary."""
    logits = c.copied()
    logits[~allowed] = -np.inf
    c.replace(logits)


def _top(c: Candidates, count: int) -> tuple[tuple[int, float], ...]:
    best = largest(c.logits, count)[0]
    best = best[np.argsort(-c.logits[best], kind="stable")][:count]
    return tuple(zip(c.ids[best].tolist(), (c.exps[best] / c.total).tolist(), strict=True))


def _watch(
    c: Candidates, name: str, value: str, apply: Callable[[Candidates], object], top: int, before: Floats
) -> Stage:
    had = c.count
    apply(c)
    _check(c.best)
    after = np.zeros(c.n_vocab, np.float32)
    after[c.ids] = c.probabilities
    kept, taken = c.count, 0.0
    gone: list[tuple[int, float]] = []
    if kept < had:
        left = np.zeros(c.n_vocab, bool)
        left[c.ids[c.logits > -np.inf]] = True
        removed = np.where(left, np.float32(0), before)
        taken = float(removed.sum(dtype=np.float64))
        some = np.flatnonzero(removed)
        if len(some):
            best = some[largest(removed[some], top)[0][:top]]
            gone = list(zip(best.tolist(), removed[best].tolist(), strict=True))
    moved = float(np.abs(after - before).sum(dtype=np.float64)) / 2
    return Stage(name, value, kept, had - kept, _top(c, top), tuple(gone), taken, moved, after)


def _bias(
    n_vocab: int, params: SamplingParams, logit_bias: Mapping[int, float], end: Ids, warnings: list[str]
) -> tuple[Ids, Floats] | None:
    """Token ids and what is added to their logits: the request's bias, bans, and the end tokens if banned."""
    if len(logit_bias) > n_vocab:
        raise InvalidInput(f"logit_bias names {len(logit_bias):,} tokens, and this model has {n_vocab:,}.")
    bias = {int(token): float(value) for token, value in logit_bias.items()}
    if any(np.isnan(value) for value in bias.values()):
        raise InvalidInput("A logit bias is not a number (NaN). Give each token a number, such as -100 or 5.")
    bias.update(dict.fromkeys(token_ids(params.custom_token_bans), -np.inf))
    if params.ban_eos_token:
        bias.update(dict.fromkeys(end.tolist(), -np.inf))
    known = {token: value for token, value in bias.items() if 0 <= token < n_vocab}
    if len(known) < len(bias):
        strange = next(token for token in bias if token not in known)
        warnings.append(f"Token id {strange} does not exist in this model: its ban or bias was left out.")
    if not known:
        return None
    values = np.fromiter(known.values(), np.float64)
    # an infinite raise would leave no differences to choose by; what is that far down is banned
    values = np.where(values < -_FAR, -np.inf, np.minimum(values, _FAR))
    return np.fromiter(known, np.int64), values.astype(np.float32)
