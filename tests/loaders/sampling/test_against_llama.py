"""The samplers that llama.cpp also has, compared with its own, called through its C API on the same logits.

Deliberate differences, each shown below: top_k keeps those equal to the last one; XTC spares newlines and the end of
the text; DRY's matches count up to 50 tokens; masses are summed more exactly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loaders.sampling import adaptive, dry, mirostat, penalties, temperature, truncation, xtc
from loaders.sampling.candidates import Candidates
from loaders.sampling.state import SamplerState, TokenWindow

C = pytest.importorskip("llama_cpp")
DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Theirs:
    """One of llama.cpp's samplers."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def apply(self, logits: np.ndarray) -> tuple[dict[int, float], int]:
        """The remaining candidates with their probabilities, and the selected one (for samplers that select)."""
        data = np.zeros(len(logits), DATA)
        data["id"], data["logit"] = np.arange(len(logits)), logits
        array = C.llama_token_data_array()
        array.data = ctypes.cast(data.ctypes.data, C.llama_token_data_p)
        array.size, array.selected, array.sorted = len(data), -1, False
        C.llama_sampler_apply(self.sampler, ctypes.byref(array))
        # some samplers point `data` elsewhere
        size = array.size * DATA.itemsize
        address = ctypes.cast(array.data, ctypes.c_void_p).value
        assert address
        kept = np.frombuffer((ctypes.c_char * size).from_address(address), DATA)
        kept = kept[kept["logit"] > -np.inf]
        p = np.exp(kept["logit"].astype(np.float64) - kept["logit"].max())
        chosen = int(array.data[array.selected].id) if array.selected >= 0 else -1
        return dict(zip(kept["id"].tolist(), (p / p.sum()).tolist(), strict=True)), chosen

    def accept(self, *tokens: int) -> Theirs:
        for token in tokens:
            C.llama_sampler_accept(self.sampler, token)
        return self

    def __enter__(self) -> Theirs:
        return self

    def __exit__(self, *_: object) -> None:
        C.llama_sampler_free(self.sampler)


def ours(logits: np.ndarray, apply: Callable[[Candidates], object]) -> dict[int, float]:
    c = Candidates(logits)
    with np.errstate(all="ignore"):
        apply(c)
    left = c.logits > -np.inf
    return dict(zip(c.ids[left].tolist(), c.probabilities[left].tolist(), strict=True))


def agree(logits: np.ndarray, apply: Callable[[Candidates], object], sampler: Any, *accepted: int) -> None:
    with Theirs(sampler) as theirs:
        wanted, _ = theirs.accept(*accepted).apply(logits)
    found = ours(logits, apply)
    if len(logits) <= 3000:
        assert found.keys() == wanted.keys()
    # over tens of thousands, its float32 cumulative sums drift, so that a cut by mass ends a few tokens early or late
    strays = found.keys() ^ wanted.keys()
    assert sum(found.get(token, 0) + wanted.get(token, 0) for token in strays) < 1e-4
    assert max(abs(found[token] - wanted[token]) for token in wanted.keys() & found.keys()) < 1e-4


def model_like(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n) * 2.5
    z[rng.choice(n, min(40, n), replace=False)] += np.linspace(12, 2, min(40, n))
    return z.astype(np.float32)


LOGITS = [model_like(n, seed) for seed, n in enumerate((5, 30, 300, 3000, 40_000))]
every_shape = pytest.mark.parametrize("z", LOGITS, ids=lambda z: str(len(z)))


@every_shape
def test_cuts(z: np.ndarray) -> None:
    for k in (1, 3, 40, 100_000):
        agree(z, lambda c, k=k: truncation.top_k(c, k), C.llama_sampler_init_top_k(k))
    for p in (0.01, 0.3, 0.5, 0.9, 0.95, 0.99):
        agree(z, lambda c, p=p: truncation.top_p(c, p), C.llama_sampler_init_top_p(p, 1))
        agree(z, lambda c, p=p: truncation.min_p(c, p), C.llama_sampler_init_min_p(p, 1))
        agree(z, lambda c, p=p: truncation.typical_p(c, p), C.llama_sampler_init_typical(p, 1))
    for n in (0.5, 1, 2, 4):
        agree(z, lambda c, n=n: truncation.top_n_sigma(c, n), C.llama_sampler_init_top_n_sigma(n))


def test_top_k_keeps_ties_and_llama_does_not() -> None:
    z = np.array([1, 1, 1, 0], np.float32)
    with Theirs(C.llama_sampler_init_top_k(2)) as theirs:
        assert len(theirs.apply(z)[0]) == 2
    assert set(ours(z, lambda c: truncation.top_k(c, 2))) == {0, 1, 2}


@every_shape
def test_temperatures(z: np.ndarray) -> None:
    for t in (0.2, 0.7, 1.3, 5):
        agree(z, lambda c, t=t: temperature.apply_temperature(c, t), C.llama_sampler_init_temp(t))
    for low, high, exponent in ((0.5, 1.5, 1), (0.1, 4, 2.5), (1, 1.2, 0.3)):
        sampler = C.llama_sampler_init_temp_ext((low + high) / 2, (high - low) / 2, exponent)
        agree(z, lambda c, v=(low, high, exponent): temperature.apply_dynamic_temperature(c, *v), sampler)


@every_shape
def test_xtc(z: np.ndarray) -> None:
    for threshold in (0.01, 0.05, 0.1, 0.3):
        sampler = C.llama_sampler_init_xtc(1.0, threshold, 1, 1)
        agree(z, lambda c, t=threshold: xtc.apply_xtc(c, t, frozenset()), sampler)


def test_xtc_spares_newlines_and_llama_does_not() -> None:
    z = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    with Theirs(C.llama_sampler_init_xtc(1.0, 0.15, 1, 1)) as theirs:
        assert set(theirs.apply(z)[0]) == {2, 3}
    assert set(ours(z, lambda c: xtc.apply_xtc(c, 0.15, frozenset({0})))) == {0, 1, 2, 3}


@every_shape
def test_penalties(z: np.ndarray) -> None:
    tokens = np.random.default_rng(1).integers(0, min(len(z), 50), 200)
    for size in (10, 64, 200):
        window = TokenWindow(tokens, size)
        for repeat, frequency, presence in ((1.2, 0, 0), (0.8, 0, 0), (1, 0.3, 0), (1, 0, 0.7), (1.3, 0.1, 0.2)):

            def apply(c: Candidates, w: TokenWindow = window, values: Any = (repeat, presence, frequency)) -> None:
                penalties.apply_repetition_penalty(c, w.tokens, values[0])
                penalties.apply_additive_penalty(c, w.tokens, values[1])
                penalties.apply_additive_penalty(c, w.tokens, w.counts * np.float32(values[2]))

            sampler = C.llama_sampler_init_penalties(len(z), size, repeat, frequency, presence)
            agree(z, apply, sampler, *tokens.tolist())


@every_shape
def test_mirostat_2_keeps_the_same_and_learns_the_same(z: np.ndarray) -> None:
    follow(C.llama_sampler_init_mirostat_v2(5, 3.0, 0.3), mirostat.Mirostat(2, 3.0, 0.3, len(z)), z)


@every_shape
def test_mirostat_1_keeps_the_same_and_learns_the_same(z: np.ndarray) -> None:
    sampler = C.llama_sampler_init_mirostat(len(z), 5, 3.0, 0.3, 100)
    follow(sampler, mirostat.Mirostat(1, 3.0, 0.3, len(z)), z)


@every_shape
def test_adaptive_p_bends_the_same_and_learns_the_same(z: np.ndarray) -> None:
    follow(C.llama_sampler_init_adaptive_p(0.3, 0.8, 5), adaptive.AdaptiveP(0.3, 0.8), z)


def follow(sampler: Any, step: mirostat.Mirostat | adaptive.AdaptiveP, z: np.ndarray) -> None:
    """Twelve tokens on changing logits; ours accepts what llama.cpp's chose."""
    rng = np.random.default_rng(2)
    with Theirs(sampler) as theirs:
        for _ in range(12):
            logits = (z + rng.standard_normal(len(z))).astype(np.float32)
            wanted, chosen = theirs.apply(logits)
            c = Candidates(logits)
            before = step.apply(c)
            found = dict(zip(c.ids.tolist(), c.probabilities.tolist(), strict=True))
            assert found.keys() == wanted.keys()
            assert max(abs(found[token] - wanted[token]) for token in wanted) < 1e-4
            theirs.accept(chosen)
            step.learn(float(before[c.ids == chosen][0]))


# --- DRY, which needs a vocabulary ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vocab(demo_model_path: Path) -> Iterator[Any]:
    params = C.llama_model_default_params()
    params.vocab_only = True
    model = C.llama_model_load_from_file(str(demo_model_path).encode(), params)
    yield C.llama_model_get_vocab(model)
    C.llama_model_free(model)


def dry_sampler(vocab: Any, allowed: int, window: int, breakers: tuple[bytes, ...]) -> Any:
    strings = (ctypes.c_char_p * max(len(breakers), 1))(*breakers)
    return C.llama_sampler_init_dry(vocab, 0.8, 1.75, allowed, window, strings, len(breakers))


@pytest.mark.parametrize(("allowed", "window"), [(2, 1000), (1, 40), (4, 300)])
def test_dry(vocab: Any, allowed: int, window: int) -> None:
    n = C.llama_vocab_n_tokens(vocab)
    rng = np.random.default_rng(allowed)
    z = model_like(n, 3)
    for _ in range(5):
        tokens = rng.integers(1000, 1004, int(rng.integers(1, 400))).tolist()  # four words, so they repeat
        repeats = dry.RepeatIndex(SamplerState(n_vocab=n, prompt_ids=tokens, window=window))
        agree(
            z,
            lambda c, r=repeats: dry.apply_dry(c, r, 0.8, 1.75, allowed),
            dry_sampler(vocab, allowed, window, ()),
            *tokens,
        )


def test_dry_with_breakers(vocab: Any) -> None:
    def encode(text: str) -> list[int]:
        out = (C.llama_token * 64)()
        return list(out[: C.llama_tokenize(vocab, text.encode(), len(text.encode()), out, 64, False, False)])

    def piece(token: int) -> bytes:
        out = ctypes.create_string_buffer(256)
        return out.raw[: max(C.llama_token_to_piece(vocab, token, out, 256, 0, False), 0)]

    from loaders.params import SamplingParams

    n = C.llama_vocab_n_tokens(vocab)
    ids = dry.find_breaker_ids(SamplingParams(dry_multiplier=0.8), encode, piece, n)
    newline = encode("\n")[0]
    assert newline in ids
    assert len(ids) < 2000
    rng = np.random.default_rng(4)
    z = model_like(n, 3)
    words = [*encode(" one two three"), newline]
    assert not ids & set(words[:-1])
    for _ in range(5):
        tokens = [words[i] for i in rng.integers(0, 4, 60)] + words[:3]
        repeats = dry.RepeatIndex(SamplerState(n_vocab=n, prompt_ids=tokens, window=1000, breaker_ids=ids))
        sampler = dry_sampler(vocab, 2, 1000, (b"\n", b":", b'"', b"*"))
        agree(z, lambda c, r=repeats: dry.apply_dry(c, r, 0.8, 1.75, 2), sampler, *tokens)
