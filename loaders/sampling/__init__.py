"""The sampler stack: logits in, a token out, the same under every loader. NumPy alone; no engine is imported."""

from __future__ import annotations

from loaders.sampling.candidates import Scratch
from loaders.sampling.chain import ELSEWHERE, SamplerChain, Stage, draw_seed, order
from loaders.sampling.dry import breaker_ids

__all__ = ["ELSEWHERE", "SamplerChain", "Scratch", "Stage", "breaker_ids", "draw_seed", "order"]
