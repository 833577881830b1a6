"""The sampler chain of one request: from SamplingParams and logits to a token, in the user's order, for every loader.

It sees logits and token ids only: nothing of texts, contexts or engines. All state and randomness belong to the
request, so the same seed, prompt and settings give the same choices whatever else is running. `choose` and `stages`
change nothing; only `accept` advances.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from errors import EngineFailed, NonFiniteLogits
from loaders.params import SAMPLERS, SamplingParams
from loaders.sampling import adaptive, dry, mirostat, penalties, temperature, truncation, xtc
from loaders.sampling.biases import bounded_bias, known_biases
from loaders.sampling.candidates import Candidates, Ids, SamplerBuffers
from loaders.sampling.selection import Floats, argmax_k
from loaders.sampling.state import SamplerState, SamplerStep

#: Knobs of SamplingParams that are not samplers: the loaders honor them.
NON_SAMPLER_PARAMS: frozenset[str] = frozenset(
    (
        "guidance_scale",
        "negative_prompt",
        "penalty_alpha",
        "num_beams",
        "length_penalty",
        "early_stopping",
        "prompt_lookup_num_tokens",
        "grammar_string",
        "banned_strings",
        "banned_strings_ignore_case",
        "token_healing",
    )
)

_BUILDERS: Mapping[str, Callable[[SamplingParams, SamplerState], SamplerStep | None]] = {
    **penalties.BUILDERS,
    **dry.BUILDERS,
    **temperature.BUILDERS,
    **truncation.BUILDERS,
    **xtc.BUILDERS,
}
_GREEDY_BUILDERS = {**penalties.BUILDERS, **dry.BUILDERS}  # without sampling, only these change which token is best
_CHANCES = 3  # random numbers of a position
_DRAWING = ("mirostat", "adaptive_p")  # not in BUILDERS: they learn from each draw, so they always come last


@dataclass(frozen=True, slots=True)
class SamplerStage:
    """What one step did, for the sampler inspector. Tokens come with their probabilities, best first."""

    name: str  # as in sampler_priority, or "model", "bans", "grammar", "greedy"
    value: str  # its setting
    kept: int
    removed: int
    top: tuple[tuple[int, float], ...]  # the best remaining ones, with their probabilities now
    dropped: tuple[tuple[int, float], ...]  # the best removed ones, with their probabilities before
    dropped_mass: float  # the total probability of all removed ones before
    tv_distance: float  # the probability moved between tokens: the total variation distance, 0 to 1
    probabilities: Floats = field(repr=False, compare=False)  # after it, of the whole vocabulary: shape (n_vocab,)


def choose_seed(seed: int) -> int:
    """The seed to use: the given one, or a random one for -1."""
    return seed if seed >= 0 else random.SystemRandom().randint(1, 2**31 - 1)


def sampler_order(params: SamplingParams, warnings: list[str] | None = None) -> list[str]:
    """The samplers' names in the order of `sampler_priority`.

    One that is not listed there comes right after the one that it follows in the default order.
    """
    steps = list(dict.fromkeys(name for name in params.sampler_priority if name in SAMPLERS))
    strange = [name for name in params.sampler_priority if name not in SAMPLERS]
    if strange and warnings is not None:
        warnings.append(f"sampler_priority: unknown samplers were ignored: {', '.join(strange)[:100]}.")
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
        scratch: SamplerBuffers | None = None,
    ) -> None:
        """`context_length` replaces a repetition range of 0; `breaker_ids` come from `dry.find_breaker_ids`.

        Chains that one thread uses in turn may share a `scratch`, which then stays in the processor's cache.
        Warnings about knobs without effect are appended to `warnings`. Raises: InvalidInput.
        """
        warnings = [] if warnings is None else warnings
        self.seed = choose_seed(seed)
        self._params = params
        self._make_state = partial(
            SamplerState,
            n_vocab=n_vocab,
            prompt_ids=prompt_ids,
            window=penalties.window_size(params, context_length),
            newline_ids=list(newline_ids),
            end_ids=list(end_ids),
            breaker_ids=breaker_ids,
        )
        self._state = self._make_state()
        self._bias = _combine_biases(n_vocab, params, logit_bias or {}, self._state.end, warnings)
        self._min_length = params.min_length if len(self._state.end) else 0
        self._greedy = temperature.is_greedy(params)
        self._draw: mirostat.Mirostat | adaptive.AdaptiveP | None = None
        if not self._greedy:
            self._draw = mirostat.make_mirostat(params, self._state)
            adapts = adaptive.make_adaptive_p(params)
            if self._draw and adapts:
                warnings.append("adaptive-p has no effect while mirostat is on.")
            self._draw = self._draw or adapts
        self._order = sampler_order(params, warnings)
        self._steps = self._make_steps()
        self._scratch = scratch or SamplerBuffers(n_vocab)
        self._new_tokens = 0
        self._memories: list[tuple[float, float]] = []  # what `_draw` had learned before each new token
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        self._draw_chance = self._second_chance = 0.0
        self._chosen: tuple[int, float] | None = None  # the last choice and the probability to learn from
        self._draw_chances()

    def _make_steps(self) -> list[SamplerStep]:
        builders = _GREEDY_BUILDERS if self._greedy else _BUILDERS
        built = (builders[name](self._params, self._state) for name in self._order if name in builders)
        return [step for step in built if step]

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the active steps, in order. Neutral knobs have none."""
        return tuple(step.name for step in self._steps) + ((self._draw.name,) if self._draw else ())

    def choose(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None, attempt: int = 0) -> int:
        """Choose the next token from the model's logits, shape (n_vocab,), which are only read.

        `allowed`, of the same shape, restricts the choice to these tokens. Until `accept` is called, the same logits
        give the same token, so a caller may check a choice and then choose again among the allowed ones; each
        `attempt` has its own random number. Raises: EngineFailed if logits are not numbers or no token is left.
        """
        with np.errstate(all="ignore"):
            c = self._start_candidates(logits, allowed)
            if self._greedy and not self._steps:
                at = int(c.logits.argmax())  # NaN, if any logit is NaN
                _check_finite(float(c.logits[at]))
                return at
            _check_finite(c.best)
            for step in self._steps:
                step.apply(c)
            if self._greedy:
                return int(c.ids[c.logits.argmax()])
            before = self._draw.apply(c) if self._draw else None
            # the grammar refused the first draw; drawing with the same random number again would prefer its neighbors
            at = c.pick(self._chance(attempt, restricted=allowed is not None))
            token = int(c.ids[at])
            self._chosen = None if before is None else (token, float(before[at]))
            return token

    def guess(self, logits: Floats, ahead: int = 0) -> int:
        """What would be chosen `ahead` positions further from these logits, with the random numbers of that position
        and the state of this one. Changes nothing. Raises: EngineFailed, as `choose` does.
        """
        state, before = self._state, (self._state.xtc_draw, self._draw_chance, self._second_chance, self._chosen)
        try:
            if ahead and not self._greedy:
                source = np.random.PCG64(self.seed)
                source.advance(_CHANCES * (self._new_tokens + ahead))
                chances = np.random.Generator(source).random(_CHANCES).tolist()
                state.xtc_draw, self._draw_chance, self._second_chance = chances
            return self.choose(logits)
        finally:
            state.xtc_draw, self._draw_chance, self._second_chance, self._chosen = before

    def accept(self, token: int) -> None:
        """Go to the next position. Mirostat and adaptive-p only learn from the token that `choose` last returned."""
        if self._draw:
            self._memories.append(self._draw.memory)
            if self._chosen and self._chosen[0] == token:
                self._draw.learn(self._chosen[1])
        self._chosen = None
        self._state.accept(token)
        self._new_tokens += 1
        self._draw_chances()

    def rewind(self, count: int) -> None:
        """Go back by this many positions: everything is as it was there, the random numbers too."""
        if not count:
            return
        if self._draw:
            self._draw.recall(self._memories[-count])
            del self._memories[-count:]
        self._chosen = None
        self._new_tokens -= count
        start = len(self._state.prompt)
        self._state = self._make_state(reply_ids=self._state.history.tokens[start : start + self._new_tokens].copy())
        self._steps = self._make_steps()
        source = np.random.PCG64(self.seed)
        source.advance(_CHANCES * self._new_tokens)
        self._random = np.random.Generator(source)
        self._draw_chances()

    def distribution(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None) -> tuple[Ids, Floats]:
        """What `choose` draws from: token ids and their probabilities, in no particular order.

        Raises: EngineFailed, as `choose` does.
        """
        with np.errstate(all="ignore"):
            c = self._start_candidates(logits, allowed)
            _check_finite(c.best)
            for _, _, apply in self._all_steps():
                apply(c)
            left = np.flatnonzero(c.logits > -np.inf)
            return c.ids[left], c.probabilities[left]

    def processed(self, logits: Floats) -> Floats:
        """The logits after all steps, shape (n_vocab,), a new array; a removed token has -inf.

        In greedy decoding (do_sample off) only penalties are applied: nothing is reduced to the best token. Raises:
        EngineFailed, as `choose` does.
        """
        with np.errstate(all="ignore"):
            c = self._start_candidates(logits, None)
            _check_finite(c.best)
            for step in self._steps:
                step.apply(c)
            if self._draw:
                self._draw.apply(c)
            out = np.full(self._state.n_vocab, -np.inf, np.float32)
            out[c.ids] = c.logits
            return out

    def stages(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None = None, top: int = 20) -> list[SamplerStage]:
        """The effect of every step on these logits: first the model's own distribution, then in the user's order.

        XTC is always shown as applied, whatever its probability. Raises: EngineFailed, as `choose` does.
        """
        xtc_draw, self._state.xtc_draw = self._state.xtc_draw, 0.0
        try:
            with np.errstate(all="ignore"):
                c = Candidates(self._require_shape(logits), self._scratch)
                _check_finite(c.best)
                found = [SamplerStage("model", "", c.count, 0, _top(c, top), (), 0.0, 0.0, c.probabilities)]
                steps: list[tuple[str, str, Callable[[Candidates], object]]] = []
                if self._restricts(None):
                    steps.append(("bans", "", lambda c: self._restrict(c, None)))
                if allowed is not None:
                    steps.append(("grammar", "", lambda c: _keep_only(c, allowed)))
                for name, value, apply in [*steps, *self._all_steps()]:
                    found.append(_apply_and_record(c, name, value, apply, top, found[-1].probabilities))
                return found
        finally:
            self._state.xtc_draw = xtc_draw

    def _all_steps(self) -> Iterable[tuple[str, str, Callable[[Candidates], object]]]:
        for step in self._steps:
            yield step.name, step.value, step.apply
        if self._draw:
            yield self._draw.name, self._draw.value, self._draw.apply
        if self._greedy:
            yield "greedy", "", lambda c: c.cut(np.array([c.logits.argmax()]))

    def _draw_chances(self) -> None:
        # always all three, so that switching XTC on does not change the other draws
        self._state.xtc_draw, self._draw_chance, self._second_chance = self._random.random(_CHANCES).tolist()

    def _chance(self, attempt: int, *, restricted: bool) -> float:
        """The random number of a choice at this position, 0 to 1."""
        if attempt:
            source = np.random.PCG64((self.seed, self._new_tokens, attempt, restricted))
            return np.random.Generator(source).random()
        return float(self._second_chance if restricted else self._draw_chance)

    def _require_shape(self, logits: Floats) -> Floats:
        logits = np.ascontiguousarray(logits, np.float32)
        if logits.shape != (self._state.n_vocab,):
            raise ValueError(f"logits of shape {logits.shape}, not ({self._state.n_vocab},)")
        return logits

    def _start_candidates(self, logits: Floats, allowed: npt.NDArray[np.bool_] | None) -> Candidates:
        """The candidates after biases, bans and min_length, which come before all samplers."""
        c = Candidates(self._require_shape(logits), self._scratch)
        if self._restricts(allowed):
            self._restrict(c, allowed)
        return c

    def _restricts(self, allowed: npt.NDArray[np.bool_] | None) -> bool:
        return self._bias is not None or allowed is not None or self._new_tokens < self._min_length

    def _restrict(self, c: Candidates, allowed: npt.NDArray[np.bool_] | None) -> None:
        if allowed is not None and self._grammar_is_complete(allowed):
            _keep_only(c, allowed)  # neither min_length nor a ban of the end can continue a complete grammar
            return
        logits = c.copied()
        if self._bias:
            logits[self._bias[0]] += self._bias[1]
        if self._new_tokens < self._min_length:
            logits[self._state.end] = -np.inf
        c.replace(logits)
        if allowed is not None:
            _keep_only(c, allowed)

    def _grammar_is_complete(self, allowed: npt.NDArray[np.bool_]) -> bool:
        """Whether a grammar allows only the end of the reply."""
        count = int(np.count_nonzero(allowed))
        return count > 0 and count == int(np.count_nonzero(allowed[self._state.end]))


def _check_finite(best: float) -> None:
    """Check the largest logit, which is NaN if any is. Raises: EngineFailed."""
    if best == -np.inf:
        raise EngineFailed("all tokens are banned by the current settings. Remove some bans, or change the grammar.")
    if not math.isfinite(best):
        raise NonFiniteLogits


def _keep_only(c: Candidates, allowed: npt.NDArray[np.bool_]) -> None:
    """Keep only the allowed tokens of the whole vocabulary."""
    logits = c.copied()
    logits[~allowed] = -np.inf
    c.replace(logits)


def _top(c: Candidates, count: int) -> tuple[tuple[int, float], ...]:
    best = argmax_k(c.logits, count)[0]
    best = best[np.argsort(-c.logits[best], kind="stable")][:count]
    return tuple(zip(c.ids[best].tolist(), (c.exps[best] / c.total).tolist(), strict=True))


def _apply_and_record(
    c: Candidates, name: str, value: str, apply: Callable[[Candidates], object], top: int, before: Floats
) -> SamplerStage:
    had = c.count
    apply(c)
    _check_finite(c.best)
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
            best = some[argmax_k(removed[some], top)[0][:top]]
            gone = list(zip(best.tolist(), removed[best].tolist(), strict=True))
    moved = float(np.abs(after - before).sum(dtype=np.float64)) / 2
    return SamplerStage(name, value, kept, had - kept, _top(c, top), tuple(gone), taken, moved, after)


def _combine_biases(
    n_vocab: int, params: SamplingParams, logit_bias: Mapping[int, float], end: Ids, warnings: list[str]
) -> tuple[Ids, Floats] | None:
    """Token ids and the values added to their logits: the request's bias, bans, and the end tokens if banned."""
    known = known_biases(params, logit_bias, n_vocab, warnings)
    if params.ban_eos_token:
        known.update(dict.fromkeys((token for token in end.tolist() if token < n_vocab), -np.inf))
    if not known:
        return None
    values = np.fromiter((bounded_bias(value) for value in known.values()), np.float32)
    return np.fromiter(known, np.int64), values
