"""The sampler chain for all loaders: logits in, a token out. NumPy only; no engine is imported."""

from __future__ import annotations

from loaders.sampling.candidates import SamplerBuffers
from loaders.sampling.chain import NON_SAMPLER_PARAMS, SamplerChain, SamplerStage, choose_seed, sampler_order
from loaders.sampling.dry import find_breaker_ids

__all__ = [
    "NON_SAMPLER_PARAMS",
    "SamplerBuffers",
    "SamplerChain",
    "SamplerStage",
    "choose_seed",
    "find_breaker_ids",
    "sampler_order",
]
