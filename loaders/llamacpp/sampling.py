"""From SamplingParams to a token: llama.cpp's own samplers, chained in the user's order, for one request.

A `Sampler` owns its C objects and its random state, so the same seed, prompt and settings give the same choices
whatever else is running. It sees logits and token ids only; it must not know of the context or of other requests.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import llama_cpp as C
import numpy as np

from errors import EngineFailed, InvalidGrammar
from loaders.llamacpp.native import Floats
from loaders.params import SAMPLERS, SamplingParams, quoted_strings, token_ids

#: llama_token_data as NumPy sees it
CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

#: Knobs that llama.cpp has no sampler for.
UNSUPPORTED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "smoothing_factor",
            "smoothing_curve",
            "tfs",
            "top_a",
            "epsilon_cutoff",
            "eta_cutoff",
            "encoder_repetition_penalty",
            "no_repeat_ngram_size",
        ),
        "llama.cpp has no such sampler.",
    ),
    "penalty_alpha": "Contrastive search needs hidden states, which llama.cpp does not give.",
    **dict.fromkeys(
        ("num_beams", "length_penalty", "early_stopping"), "Beam search runs under the Transformers loader only."
    ),
    "prompt_lookup_num_tokens": "Prompt lookup runs under the Transformers loader only.",
}

_TEMPERATURES = ("temperature", "dynamic_temperature", "quadratic_sampling")


def draw_seed(seed: int) -> int:
    """The seed to use: the given one, or a random one for -1."""
    return seed if seed >= 0 else random.SystemRandom().randint(1, 2**31 - 1)


def order(params: SamplingParams) -> list[str]:
    """The sampler steps in the order in which they work: the user's, then those left out in the default order."""
    named = [name for name in params.sampler_priority if name in SAMPLERS]
    steps = list(dict.fromkeys(named)) + [name for name in SAMPLERS if name not in named]
    if params.temperature_last:
        steps.sort(key=lambda name: name in _TEMPERATURES)  # stable: only these move
    return steps


class Sampler:
    """The sampler chain of one request."""

    def __init__(
        self,
        vocab: Any,
        n_vocab: int,
        n_ctx: int,
        params: SamplingParams,
        seed: int,
        *,
        end_ids: Iterable[int],
        logit_bias: Mapping[int, float],
        warnings: list[str],
    ) -> None:
        """`n_ctx` stands for a range of "all"; what cannot be honoured is appended to `warnings`.

        Raises: InvalidGrammar, InvalidInput.
        """
        self._vocab = vocab
        self._n_vocab = n_vocab
        self._n_ctx = n_ctx
        self._params = params
        self._seed = seed
        self._warnings = warnings
        self._new_tokens = 0
        self._end = np.fromiter(end_ids, np.int64)
        self._bias = _bias(n_vocab, params, logit_bias, self._end, warnings)
        self._candidates = np.zeros(n_vocab, CANDIDATE)
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._array = C.llama_token_data_array()
        self._grammar: Any = None
        self._chain: Any = None
        try:
            if params.grammar_string.strip():
                self._grammar = self._make_grammar(params.grammar_string)
            self._chain = self._make_chain()
        except BaseException:
            self.close()
            raise

    def accept(self, tokens: Sequence[int]) -> None:
        """Tell the repetition samplers what the prompt says."""
        for token in tokens:
            C.llama_sampler_accept(self._chain, token)

    def choose(self, logits: Floats) -> int:
        """Choose the next token from logits, shape (n_vocab,). Raises: EngineFailed when they are not numbers."""
        if np.isnan(logits.sum(dtype=np.float32)) and np.isnan(logits).any():
            raise EngineFailed(
                "the model computed values that are not numbers (NaN). The file may be damaged, "
                "or its cache type may not suit it: load it with cache_type f16."
            )
        token = self._run(logits, with_grammar=False)
        if self._grammar and not self._fits_grammar(token):
            # the grammar looks at every candidate, which is slow: only where the free choice broke the rules
            token = self._run(logits, with_grammar=True)
        if self._grammar:
            C.llama_sampler_accept(self._grammar, token)
        C.llama_sampler_accept(self._chain, token)
        self._new_tokens += 1
        return token

    def close(self) -> None:
        for sampler in (self._chain, self._grammar):
            if sampler:
                C.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def _run(self, logits: Floats, *, with_grammar: bool) -> int:
        self._candidates["id"] = self._ids
        self._candidates["logit"] = logits
        if self._bias:
            self._candidates["logit"][self._bias[0]] += self._bias[1]
        if self._new_tokens < self._params.min_length:
            self._candidates["logit"][self._end] = -np.inf
        self._point_at(self._candidates)
        if with_grammar:
            C.llama_sampler_apply(self._grammar, ctypes.byref(self._array))
        C.llama_sampler_apply(self._chain, ctypes.byref(self._array))
        if not 0 <= self._array.selected < self._array.size:
            raise EngineFailed("no token is left to choose from. Loosen the bans or the grammar.")
        chosen = self._array.data[self._array.selected]
        if chosen.logit == -np.inf:
            raise EngineFailed("no allowed token is left to choose from. Loosen the bans or the grammar.")
        return int(chosen.id)

    def _fits_grammar(self, token: int) -> bool:
        one = np.array([(token, 1.0, 0.0)], CANDIDATE)
        self._point_at(one)
        C.llama_sampler_apply(self._grammar, ctypes.byref(self._array))
        return bool(one["logit"][0] != -np.inf)

    def _point_at(self, candidates: np.ndarray[Any, Any]) -> None:
        self._array.data = ctypes.cast(candidates.ctypes.data, C.llama_token_data_p)
        self._array.size = len(candidates)
        self._array.selected = -1
        self._array.sorted = False

    def _make_grammar(self, text: str) -> Any:
        grammar = C.llama_sampler_init_grammar(self._vocab, text.encode(), b"root")
        if not grammar:
            raise InvalidGrammar("llama.cpp cannot parse it. It must be GBNF and have a rule named root.")
        return grammar

    def _make_chain(self) -> Any:
        chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        greedy = not self._params.do_sample or self._params.temperature == 0
        for name in order(self._params):
            if greedy and name not in ("repetition_penalty", "presence_penalty", "frequency_penalty", "dry"):
                continue
            for sampler in _STEPS.get(name, _nothing)(self):
                C.llama_sampler_chain_add(chain, sampler)
        C.llama_sampler_chain_add(chain, C.llama_sampler_init_greedy() if greedy else self._last_step())
        return chain

    def _last_step(self) -> Any:
        """The step that draws: mirostat and adaptive-p do so by themselves, else by chance."""
        p, seed = self._params, self._seed
        if p.mirostat_mode == 1:
            return C.llama_sampler_init_mirostat(self._n_vocab, seed, p.mirostat_tau, p.mirostat_eta, 100)
        if p.mirostat_mode == 2:
            return C.llama_sampler_init_mirostat_v2(seed, p.mirostat_tau, p.mirostat_eta)
        if p.adaptive_target > 0:
            return C.llama_sampler_init_adaptive_p(p.adaptive_target, p.adaptive_decay, seed)
        return C.llama_sampler_init_dist(seed)

    @property
    def _window(self) -> int:
        """How many last tokens the penalties look at."""
        return self._params.repetition_penalty_range or self._n_ctx

    def _penalties(self, repeat: float = 1.0, frequency: float = 0.0, presence: float = 0.0) -> Iterable[Any]:
        if repeat != 1 or frequency or presence:
            yield C.llama_sampler_init_penalties(self._n_vocab, self._window, repeat, frequency, presence)

    def _repetition(self) -> Iterable[Any]:
        return self._penalties(repeat=self._params.repetition_penalty)

    def _presence(self) -> Iterable[Any]:
        return self._penalties(presence=self._params.presence_penalty)

    def _frequency(self) -> Iterable[Any]:
        return self._penalties(frequency=self._params.frequency_penalty)

    def _dry(self) -> Iterable[Any]:
        p = self._params
        if p.dry_multiplier > 0:
            breakers = [text.encode() for text in quoted_strings(p.dry_sequence_breakers)]
            array = (ctypes.c_char_p * max(len(breakers), 1))(*breakers)
            yield C.llama_sampler_init_dry(
                self._vocab, p.dry_multiplier, p.dry_base, p.dry_allowed_length, self._window, array, len(breakers)
            )

    def _temperature(self) -> Iterable[Any]:
        if not self._params.dynamic_temperature and self._params.temperature != 1:
            yield C.llama_sampler_init_temp(self._params.temperature)

    def _dynamic_temperature(self) -> Iterable[Any]:
        p = self._params
        if p.dynamic_temperature:
            # llama.cpp takes the middle and the half width of the range
            middle, half = (p.dynatemp_low + p.dynatemp_high) / 2, (p.dynatemp_high - p.dynatemp_low) / 2
            if half < 0:
                self._warnings.append("dynatemp_low is above dynatemp_high: their mean is used as the temperature.")
            yield C.llama_sampler_init_temp_ext(middle, half, p.dynatemp_exponent)

    def _top_n_sigma(self) -> Iterable[Any]:
        if self._params.top_n_sigma > 0:
            yield C.llama_sampler_init_top_n_sigma(self._params.top_n_sigma)

    def _top_k(self) -> Iterable[Any]:
        if self._params.top_k > 0:
            yield C.llama_sampler_init_top_k(self._params.top_k)

    def _top_p(self) -> Iterable[Any]:
        if self._params.top_p < 1:
            yield C.llama_sampler_init_top_p(self._params.top_p, 1)

    def _typical_p(self) -> Iterable[Any]:
        if self._params.typical_p < 1:
            yield C.llama_sampler_init_typical(self._params.typical_p, 1)

    def _min_p(self) -> Iterable[Any]:
        if self._params.min_p > 0:
            yield C.llama_sampler_init_min_p(self._params.min_p, 1)

    def _xtc(self) -> Iterable[Any]:
        p = self._params
        if p.xtc_probability > 0:
            yield C.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, self._seed)


def _nothing(_: Sampler) -> Iterable[Any]:
    return ()


_STEPS: Mapping[str, Callable[[Sampler], Iterable[Any]]] = {
    "repetition_penalty": Sampler._repetition,
    "presence_penalty": Sampler._presence,
    "frequency_penalty": Sampler._frequency,
    "dry": Sampler._dry,
    "top_n_sigma": Sampler._top_n_sigma,
    "temperature": Sampler._temperature,
    "dynamic_temperature": Sampler._dynamic_temperature,
    "top_k": Sampler._top_k,
    "top_p": Sampler._top_p,
    "typical_p": Sampler._typical_p,
    "min_p": Sampler._min_p,
    "xtc": Sampler._xtc,
}


def _bias(
    n_vocab: int,
    params: SamplingParams,
    logit_bias: Mapping[int, float],
    end: np.ndarray[Any, Any],
    warnings: list[str],
) -> tuple[np.ndarray[Any, Any], Floats] | None:
    """Token ids and what is added to their logits: the request's bias, bans, and the end tokens if banned."""
    bias = {token: float(value) for token, value in logit_bias.items()}
    bias.update(dict.fromkeys(token_ids(params.custom_token_bans), -np.inf))
    if params.ban_eos_token:
        bias.update(dict.fromkeys(end.tolist(), -np.inf))
    known = {token: value for token, value in bias.items() if 0 <= token < n_vocab}
    if len(known) < len(bias):
        strange = next(token for token in bias if token not in known)
        warnings.append(f"Token id {strange} does not exist in this model: its ban or bias was left out.")
    if not known:
        return None
    return np.fromiter(known, np.int64), np.fromiter(known.values(), np.float32)
