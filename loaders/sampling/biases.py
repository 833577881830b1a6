"""What a request adds to the logits of single tokens: its biases and bans, checked.

Pure. It must not know a sampler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from errors import InvalidInput
from loaders.list_parsing import parse_token_ids
from loaders.params import SamplingParams

#: Larger biases are cut to it; lower ones than its negative ban the token.
LARGEST_BIAS = 1e30


def known_biases(
    params: SamplingParams, logit_bias: Mapping[int, float], n_vocab: int, warnings: list[str]
) -> dict[int, float]:
    """The bias of each token that the model has, minus infinity for a banned one.

    `warnings` gets a sentence if others were named. Raises: InvalidInput.
    """
    if len(logit_bias) > n_vocab:
        raise InvalidInput(f"logit_bias lists {len(logit_bias):,} tokens, but this model has only {n_vocab:,}.")
    bias = {int(token): float(value) for token, value in logit_bias.items()}
    if any(math.isnan(value) for value in bias.values()):
        raise InvalidInput("logit_bias must not contain NaN. Use numbers such as -100 or 5.")
    bias.update(dict.fromkeys(parse_token_ids(params.custom_token_bans), -math.inf))
    known = {token: value for token, value in bias.items() if 0 <= token < n_vocab}
    if len(known) < len(bias):
        strange = next(token for token in bias if token not in known)
        warnings.append(f"Token id {strange} does not exist in this model, so its ban or bias was ignored.")
    return known


def bounded_bias(value: float) -> float:
    """An infinite bias would make all biased tokens equal; one of minus infinity bans."""
    return -math.inf if value < -LARGEST_BIAS else min(value, LARGEST_BIAS)
