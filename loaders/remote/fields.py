"""The fields of a request's body, for each kind of server.

Every field is sent, also where its knob is neutral: servers have defaults of their own, which are not. It must not know
how requests are sent, or what servers answer.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from typing import Any

from errors import Unsupported
from loaders import safe_json
from loaders.banned.entries import parse_banned_strings
from loaders.base import Request
from loaders.list_parsing import parse_quoted_strings, parse_token_ids
from loaders.params import SamplingParams
from loaders.remote.gbnf_schemas import has_insertions, write_schemas_as_rules
from loaders.sampling.chain import sampler_order
from loaders.sampling.temperature import is_greedy

_NEVER = -100.0  # OpenAI's smallest bias; its largest is the same without the sign
_ALL = 1_000_000  # tokens: more than any context

#: Our samplers by llama-server's names; it has one step for the three penalties, and one for both temperatures.
_LLAMA_STEPS = {
    "repetition_penalty": "penalties", "presence_penalty": "penalties", "frequency_penalty": "penalties", "dry": "dry",
    "top_n_sigma": "top_n_sigma", "temperature": "temperature", "dynamic_temperature": "temperature", "top_k": "top_k",
    "top_p": "top_p", "typical_p": "typ_p", "min_p": "min_p", "xtc": "xtc",
}  # fmt: skip

#: A JSON schema as the whole grammar.
_SCHEMA = re.compile(r"root\s*::=\s*%json\s*(\{.*\})", re.DOTALL)

Body = dict[str, Any]


def for_llama_server(request: Request, prompt: str | list[int], model: str) -> Body:
    """Those of /completion. Raises: InvalidInput."""
    params = request.params
    temperature, spread = _dynamic(params)
    body: Body = {
        "model": model,
        "prompt": prompt,
        "n_predict": request.max_tokens,
        "stream": True,
        "return_tokens": True,
        "cache_prompt": True,
        "seed": params.seed,
        "temperature": 0.0 if is_greedy(params) else temperature,
        "dynatemp_range": 0.0 if is_greedy(params) else spread,
        "dynatemp_exponent": params.dynatemp_exponent,
        "top_k": params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        "typical_p": params.typical_p,
        "top_n_sigma": params.top_n_sigma or -1.0,
        "xtc_threshold": params.xtc_threshold,
        "xtc_probability": params.xtc_probability,
        "repeat_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "repeat_last_n": params.repetition_penalty_range or -1,
        **_dry(params),
        "dry_penalty_last_n": params.repetition_penalty_range or -1,
        "mirostat": 0 if is_greedy(params) else params.mirostat_mode,
        "mirostat_tau": params.mirostat_tau,
        "mirostat_eta": params.mirostat_eta,
        "ignore_eos": params.ban_eos_token,
        "samplers": list(dict.fromkeys(_LLAMA_STEPS[name] for name in sampler_order(params) if name in _LLAMA_STEPS)),
        "logit_bias": [[token, False if value == -math.inf else value] for token, value in _biases(request).items()],
    }
    if request.alternatives is not None:
        body["n_probs"] = max(request.alternatives, 1)
    return body | _form(params, "llama-server", lambda text: {"grammar": text}, lambda schema: {"json_schema": schema})


def _vllm_sampling(request: Request) -> Body:
    """The fields for sampling that vLLM and SGLang have besides OpenAI's, by the same names."""
    params = request.params
    return {
        "top_k": params.top_k or -1,
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
        "ignore_eos": params.ban_eos_token,
        "min_tokens": min(params.min_length, request.max_tokens),
    }


def for_vllm(request: Request, prompt: str | list[int], model: str) -> Body:
    """Those of /v1/completions. Raises: InvalidInput."""
    params = request.params
    body = _openai(request, prompt, model) | _vllm_sampling(request)
    ids = not isinstance(prompt, str)  # those of its tokenizer, which is used here
    body |= {
        "skip_special_tokens": not ids and params.skip_special_tokens,  # their text is left out here, by their ids
        "add_special_tokens": not ids,  # with ids, the prompt is complete
        "return_token_ids": ids,
        "return_tokens_as_token_ids": ids,
    }
    return body | _form(
        params,
        "vLLM",
        lambda text: {"structured_outputs": {"grammar": text}},
        lambda schema: {"structured_outputs": {"json": schema}},
    )


def for_sglang(request: Request, prompt: str | list[int], model: str) -> Body:
    """Those of /v1/completions. Raises: InvalidInput."""
    params = request.params
    body = _openai(request, prompt, model) | _vllm_sampling(request)
    body |= {
        "skip_special_tokens": params.skip_special_tokens,
    }
    return body | _form(
        params, "SGLang", lambda text: {"ebnf": text}, lambda schema: {"json_schema": json.dumps(schema)}
    )


def for_tabby(request: Request, prompt: str | list[int], model: str) -> Body:
    """Those of its /v1/completions. Raises: InvalidInput."""
    params = request.params
    body = _openai(request, prompt, model)
    body |= {
        "top_k": params.top_k,
        "min_p": params.min_p,
        "typical": params.typical_p,
        "tfs": params.tfs,
        "top_a": params.top_a,
        "smoothing_factor": params.smoothing_factor,
        "temperature_last": params.temperature_last,
        "min_temp": params.dynatemp_low if params.dynamic_temperature else 1.0,
        "max_temp": params.dynatemp_high if params.dynamic_temperature else 1.0,
        "temp_exponent": params.dynatemp_exponent,
        "xtc_threshold": params.xtc_threshold,
        "xtc_probability": params.xtc_probability,
        "repetition_penalty": params.repetition_penalty,
        "penalty_range": params.repetition_penalty_range or -1,
        **_dry(params),
        "dry_range": params.repetition_penalty_range,
        "mirostat_mode": params.mirostat_mode,
        "mirostat_tau": params.mirostat_tau,
        "mirostat_eta": params.mirostat_eta,
        "ban_eos_token": params.ban_eos_token,
        "min_tokens": min(params.min_length, request.max_tokens),
        "skip_special_tokens": params.skip_special_tokens,
        "add_bos_token": False,  # the prompt has it already
        "banned_strings": [each.text for each in parse_banned_strings(params.banned_strings) if not each.regex],
    }
    return body


def unused_by_tabby(params: SamplingParams) -> list[str]:
    """What of the knobs that it has cannot be sent to it, as sentences. Raises: InvalidInput."""
    left_out = [each.text for each in parse_banned_strings(params.banned_strings) if each.regex]
    if not left_out:
        return []
    more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
    return [
        f"banned_strings: TabbyAPI bans plain strings only, so /{left_out[0][:80]}/{more} had no effect. Write the "
        "words themselves."
    ]


def for_openai(request: Request, prompt: str | list[int], model: str) -> Body:
    """Those of OpenAI's own /v1/completions, and no others. Raises: InvalidInput."""
    return _openai(request, prompt, model)


def _openai(request: Request, prompt: str | list[int], model: str) -> Body:
    params = request.params
    body: Body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0 if is_greedy(params) else params.temperature,
        "top_p": params.top_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "seed": params.seed,
    }
    if biases := _biases(request):
        body["logit_bias"] = {str(token): min(max(value, _NEVER), -_NEVER) for token, value in biases.items()}
    if request.alternatives is not None:
        body["logprobs"] = request.alternatives
    return body


def _form(params: SamplingParams, server: str, grammar: Callable[[str], Body], schema: Callable[[Any], Body]) -> Body:
    """The form that the reply must have: a JSON schema by itself, or a GBNF grammar, also where schemas stand in one.

    Raises: Unsupported.
    """
    text = params.grammar_string.strip()
    if not text:
        return {}
    if alone := _SCHEMA.fullmatch(text):
        with contextlib.suppress(ValueError):
            return schema(safe_json.loads(alone[1]))
    if has_insertions(text):
        try:
            text = write_schemas_as_rules(text)
        except ValueError as error:
            raise Unsupported(
                f"{server} cannot follow this form, which has more than GBNF: {error}. If it is that of a forced tool "
                'call, leave the choice of tools to the model (tool_choice "auto").'
            ) from None
    return grammar(text)


def _biases(request: Request) -> dict[int, float]:
    """Added to logits; minus infinity for banned tokens."""
    return {**request.logit_bias, **dict.fromkeys(parse_token_ids(request.params.custom_token_bans), -math.inf)}


def _dynamic(params: SamplingParams) -> tuple[float, float]:
    """The temperature, and how far a dynamic one deviates from it."""
    if not params.dynamic_temperature:
        return params.temperature, 0.0
    low, high = sorted((params.dynatemp_low, params.dynatemp_high))
    return (low + high) / 2, (high - low) / 2


def _dry(params: SamplingParams) -> Body:
    return {
        "dry_multiplier": params.dry_multiplier,
        "dry_base": params.dry_base,
        "dry_allowed_length": params.dry_allowed_length,
        "dry_sequence_breakers": parse_quoted_strings(params.dry_sequence_breakers, bare=True),
    }
