"""The sampling knobs, each declared once, and the base that every loader's load options share.

From these fields come the Parameters tab, the presets' keys, the API's fields and the documents' tables. This module
must not know how a knob is shown, nor how an engine honours it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from loaders import cache_types
from loaders.knobs import Knobs, knob

#: The groups of the Parameters tab: what a person wants to change. Name to title and plain sentence.
GROUPS: Mapping[str, tuple[str, str]] = {
    "length": ("Length", "How much may be written, and how fast it is shown."),
    "randomness": ("Randomness", "How far the choice may stray from the most likely token."),
    "tail": ("Cutting the tail", "Which unlikely tokens are never chosen."),
    "repetition": ("Repetition", "How strongly what was said before is avoided."),
    "guidance": ("Guidance", "Steering away from a negative prompt, and search instead of chance."),
    "stopping": ("Stopping and tokens", "Where a reply ends, and which tokens it may hold."),
    "order": ("Order and seed", "In which order the samplers work, and how to repeat a reply."),
    "grammar": ("Grammar", "A form that the reply must keep to."),
}

#: The steps that `sampler_priority` orders, in the default order.
SAMPLERS: tuple[str, ...] = (
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry",
    "top_n_sigma",
    "temperature",
    "dynamic_temperature",
    "quadratic_sampling",
    "top_k",
    "top_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "tfs",
    "top_a",
    "min_p",
    "adaptive_p",
    "mirostat",
    "xtc",
    "encoder_repetition_penalty",
    "no_repeat_ngram",
)


def _names(value: Any) -> Any:
    """A list of sampler names from a list, or from text with one name a line (or commas)."""
    if isinstance(value, str):
        value = value.replace(",", "\n").split("\n")
    if isinstance(value, list | tuple):
        return tuple(str(name).strip() for name in value if str(name).strip())
    return value


def _text(value: Any) -> Any:
    """A text, also where a client sends a list of strings or numbers in its place."""
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return "" if value is None else value


def _not_negative(value: Any) -> Any:
    """Below 0 is off, as at 0: so some clients say it."""
    negative = isinstance(value, int | float) and not isinstance(value, bool) and value < 0
    return 0 if negative else value


Text = Annotated[str, BeforeValidator(_text)]
Share = Annotated[float, BeforeValidator(_not_negative)]
Count = Annotated[int, BeforeValidator(_not_negative)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class SamplingParams(Knobs):
    """How a reply is drawn from the model's distributions. Defaults are neutral: they change nothing."""

    # --- length ---
    max_new_tokens: int = knob(
        512, ge=1, range=(1, 4096, 1), group="length",
        help="The most tokens that a reply may have. The prompt may use what is left of the context.",
    )  # fmt: skip
    auto_max_new_tokens: bool = knob(
        False, group="length", help="Let a reply use all of the context that the prompt leaves free."
    )
    truncation_length: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="length",
        help="Use at most this much of the model's context for prompt and reply. 0 is all of it.",
    )  # fmt: skip
    min_length: int = knob(
        0, ge=0, range=(0, 2000, 1), group="length", preset=True, aliases=("min_tokens",),
        help="Do not let the reply end before it has this many tokens.",
    )  # fmt: skip
    max_tokens_second: float = knob(
        0, ge=0, range=(0, 20, 1), group="length", advanced=True,
        help="Show at most this many tokens per second, to read along. 0 is as fast as it comes.",
    )  # fmt: skip
    max_updates_second: float = knob(
        0, ge=0, range=(0, 24, 1), group="length", advanced=True,
        help="Update the page at most this often per second. 0 is at every token.",
    )  # fmt: skip
    stream: bool = knob(
        True, group="length", help="Show the reply while it is being written.",
        help_off="Show a reply only when it is complete.",
    )  # fmt: skip

    # --- randomness ---
    temperature: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True,
        help="Divides the logits: below 1 the likely tokens gain, above 1 the unlikely ones. 0 is greedy.",
    )  # fmt: skip
    temperature_last: bool = knob(
        False, group="randomness", preset=True,
        help="Apply temperature after all other samplers, so that they cut the model's own distribution.",
    )  # fmt: skip
    dynamic_temperature: bool = knob(
        False, group="randomness", preset=True,
        help="Choose the temperature for each token between low and high by how unsure the model is.",
    )  # fmt: skip
    dynatemp_low: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True, advanced=True,
        help="Dynamic temperature where the model is certain.",
    )  # fmt: skip
    dynatemp_high: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True, advanced=True,
        help="Dynamic temperature where the model knows nothing.",
    )  # fmt: skip
    dynatemp_exponent: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True, advanced=True,
        help="How the temperature grows between low and high: T = low + (high - low) * (H / H_max)^exponent.",
    )  # fmt: skip
    smoothing_factor: float = knob(
        0.0, ge=0, range=(0, 10, 0.01), group="randomness", preset=True,
        help="Quadratic sampling: lowers each logit by the square of its distance from the best. 0 is off.",
    )  # fmt: skip
    smoothing_curve: float = knob(
        1.0, ge=1, range=(1, 10, 0.01), group="randomness", preset=True, advanced=True,
        help="Adds a cubic term to quadratic sampling: higher values cut the far tail more steeply.",
    )  # fmt: skip
    do_sample: bool = knob(
        True, group="randomness", preset=True, help="Draw by chance. Off: always take the most likely token.",
        help_off="Do not sample: always take the most likely token.",
    )  # fmt: skip
    mirostat_mode: int = knob(
        0, ge=0, le=2, range=(0, 2, 1), group="randomness", preset=True,
        help="Mirostat keeps the surprise of the text near a target. 0 is off, 2 the simpler form.",
    )  # fmt: skip
    mirostat_tau: float = knob(
        5.0, ge=0, range=(0, 10, 0.01), group="randomness", preset=True, advanced=True,
        help="Mirostat's target of surprise, in bits per token.",
    )  # fmt: skip
    mirostat_eta: float = knob(
        0.1, ge=0, range=(0, 1, 0.01), group="randomness", preset=True, advanced=True,
        help="How fast mirostat corrects itself.",
    )  # fmt: skip
    adaptive_target: Share = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="randomness", preset=True,
        help="Adaptive-p: prefer tokens whose probability is near this value. 0 is off.",
    )  # fmt: skip
    adaptive_decay: float = knob(
        0.9, ge=0, le=0.99, range=(0, 0.99, 0.01), group="randomness", preset=True, advanced=True,
        help="How long adaptive-p remembers the probabilities of the tokens that it chose.",
    )  # fmt: skip

    # --- cutting the tail ---
    top_p: float = knob(
        1.0, ge=0, le=1, range=(0, 1, 0.01), group="tail", preset=True,
        help="Keep the smallest set of tokens whose probabilities add up to this. 1 is off.",
    )  # fmt: skip
    min_p: float = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="tail", preset=True,
        help="Drop tokens less likely than this share of the likeliest one's probability. 0 is off.",
    )  # fmt: skip
    top_k: Count = knob(
        0, ge=0, range=(0, 200, 1), group="tail", preset=True,
        help="Keep only the k likeliest tokens. 0 is off.",
    )  # fmt: skip
    typical_p: float = knob(
        1.0, ge=0, le=1, range=(0, 1, 0.01), group="tail", preset=True, aliases=("typical",),
        help="Keep the tokens whose surprise is closest to the expected one, up to this mass. 1 is off.",
    )  # fmt: skip
    tfs: float = knob(
        1.0, ge=0, le=1, range=(0, 1, 0.01), group="tail", preset=True, advanced=True,
        help="Tail-free sampling: cut where the curve of sorted probabilities becomes flat. 1 is off.",
    )  # fmt: skip
    top_a: float = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="tail", preset=True, advanced=True,
        help="Drop tokens less likely than this times the square of the likeliest one's probability. 0 is off.",
    )  # fmt: skip
    epsilon_cutoff: float = knob(
        0.0, ge=0, range=(0, 9, 0.01), group="tail", preset=True, advanced=True,
        help="Drop tokens below this probability, in units of 1e-4. 0 is off.",
    )  # fmt: skip
    eta_cutoff: float = knob(
        0.0, ge=0, range=(0, 20, 0.01), group="tail", preset=True, advanced=True,
        help="Like epsilon_cutoff, but softer where the model is unsure; in units of 1e-4. 0 is off.",
    )  # fmt: skip
    top_n_sigma: float = knob(
        0.0, ge=0, range=(0, 5, 0.01), group="tail", preset=True, aliases=("nsigma",),
        help="Keep logits within this many standard deviations of the best one. 0 is off.",
    )  # fmt: skip
    xtc_threshold: float = knob(
        0.1, ge=0, le=1, range=(0, 0.5, 0.01), group="tail", preset=True,
        help="Exclude top choices: with xtc_probability, drop all tokens above this but the least likely of them.",
    )  # fmt: skip
    xtc_probability: float = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="tail", preset=True,
        help="How often XTC acts. 0 is off.",
    )  # fmt: skip

    # --- repetition ---
    repetition_penalty: float = knob(
        1.0, ge=0.01, range=(1, 1.5, 0.01), group="repetition", preset=True, aliases=("rep_pen", "repeat_penalty"),
        help="Divides the logits of tokens that were used already (multiplies negative ones). 1 is off.",
    )  # fmt: skip
    presence_penalty: float = knob(
        0.0, range=(0, 2, 0.05), group="repetition", preset=True,
        help="Subtracted once from the logit of every token that was used already. 0 is off.",
    )  # fmt: skip
    frequency_penalty: float = knob(
        0.0, range=(0, 2, 0.05), group="repetition", preset=True,
        help="Subtracted from a token's logit for each time that it was used. 0 is off.",
    )  # fmt: skip
    repetition_penalty_range: int = knob(
        1024, ge=0, range=(0, 4096, 64), group="repetition", preset=True, aliases=("rep_pen_range", "repeat_last_n"),
        help="How many of the last tokens, prompt included, the three penalties above and DRY look at. 0 is all.",
    )  # fmt: skip
    encoder_repetition_penalty: float = knob(
        1.0, ge=0.01, range=(0.8, 1.5, 0.01), group="repetition", preset=True, advanced=True,
        help="Above 1 favours tokens that are in the prompt, below 1 avoids them. 1 is off.",
    )  # fmt: skip
    no_repeat_ngram_size: int = knob(
        0, ge=0, range=(0, 20, 1), group="repetition", preset=True, advanced=True,
        help="Never repeat a sequence of this many tokens. 0 is off.",
    )  # fmt: skip
    dry_multiplier: float = knob(
        0.0, ge=0, range=(0, 5, 0.01), group="repetition", preset=True,
        help="DRY lowers tokens that would extend a repetition, more the longer it is. 0 is off; try 0.8.",
    )  # fmt: skip
    dry_base: float = knob(
        1.75, ge=1, range=(1, 4, 0.01), group="repetition", preset=True, advanced=True,
        help="How fast DRY's penalty grows: multiplier * base^(length - allowed length).",
    )  # fmt: skip
    dry_allowed_length: int = knob(
        2, ge=0, range=(1, 20, 1), group="repetition", preset=True, advanced=True,
        help="Repeats up to this many tokens go unpunished by DRY.",
    )  # fmt: skip
    dry_sequence_breakers: Text = knob(
        '"\\n", ":", "\\"", "*"', group="repetition", preset=True, advanced=True,
        help="Quoted strings, with commas between, at which DRY starts counting afresh.",
    )  # fmt: skip

    # --- guidance ---
    guidance_scale: float = knob(
        1.0, range=(-0.5, 2.5, 0.05), group="guidance", preset=True,
        help="CFG: how strongly to steer away from the negative prompt. 1 is off; try 1.5.",
    )  # fmt: skip
    negative_prompt: Text = knob(
        "", lines=3, group="guidance",
        help="What the reply should not be like, written as an instruction. It acts when guidance_scale is not 1.",
    )  # fmt: skip
    penalty_alpha: float = knob(
        0.0, ge=0, range=(0, 5, 0.01), group="guidance", preset=True, advanced=True,
        help="Contrastive search, with do_sample off and top_k above 1. 0 is off.",
    )  # fmt: skip
    num_beams: int = knob(
        1, ge=1, range=(1, 20, 1), group="guidance", preset=True, advanced=True,
        help="Beam search: follow this many candidates at once. 1 is off.",
    )  # fmt: skip
    length_penalty: float = knob(
        1.0, range=(-5, 5, 0.1), group="guidance", preset=True, advanced=True,
        help="With beam search: above 0 favours longer replies, below 0 shorter ones.",
    )  # fmt: skip
    early_stopping: bool = knob(
        False, group="guidance", preset=True, advanced=True,
        help="With beam search: stop as soon as enough candidates are complete.",
    )  # fmt: skip
    prompt_lookup_num_tokens: int = knob(
        0, ge=0, range=(0, 10, 1), group="guidance", advanced=True,
        help="Guess this many tokens ahead by looking for the same words in the prompt. 0 is off.",
    )  # fmt: skip

    # --- stopping and tokens ---
    custom_stopping_strings: Text = knob(
        "", lines=2, group="stopping",
        help='The reply ends before any of these. Quoted, with commas between: "\\n", "\\nYou:"',
    )  # fmt: skip
    custom_token_bans: Text = knob(
        "", lines=2, group="stopping", help="Token ids that never appear, with commas between."
    )
    ban_eos_token: bool = knob(
        False, group="stopping", aliases=("ignore_eos",),
        help="Do not let the model end its reply by itself: it goes on to max_new_tokens.",
    )  # fmt: skip
    add_bos_token: bool = knob(
        True, neutral=True, group="stopping", help="Begin the prompt with the model's own start token.",
        help_off="Do not add the model's start token (BOS) to the prompt.",
    )  # fmt: skip
    skip_special_tokens: bool = knob(
        True, neutral=True, group="stopping", help="Leave control tokens such as <|im_end|> out of the text.",
        help_off="Show control tokens such as <|im_end|> in the text.",
    )  # fmt: skip
    control_tokens_in_messages: bool = knob(
        False, group="stopping", advanced=True,
        help="A control token that is written in a message, such as <|im_end|>, counts as that token; else it is text.",
    )  # fmt: skip

    # --- order and seed ---
    seed: int = knob(
        -1, ge=-1, group="order", help="The same seed, prompt and settings give the same reply. -1 draws one."
    )
    sampler_priority: Names = knob(
        SAMPLERS, lines=12, group="order", preset=True, advanced=True,
        help="The order in which the samplers work, one name a line. Those left out come at their usual place.",
    )  # fmt: skip

    # --- grammar ---
    grammar_string: Text = knob("", lines=12, group="grammar", help="A GBNF grammar: the reply always conforms to it.")


class LoadOptions(Knobs):
    """How a model is brought into memory: the base of every loader's options, and what they all share."""

    @model_validator(mode="before")
    @classmethod
    def _nearest_cache_types(cls, values: Any) -> Any:
        """Cache types in the spellings of other programs and versions, for whichever option is one."""
        if not isinstance(values, Mapping):
            return values
        knobs, spellings = cls.knobs(), cls.spellings()
        return {
            key: cache_types.nearest(value, knobs[spellings[key]].choices)
            if key in spellings and cache_types.is_cache_type(knobs[spellings[key]].choices)
            else value
            for key, value in values.items()
        }


#: The groups of load options: what most people need, and the rest, which is folded.
LOAD_GROUPS: Mapping[str, tuple[str, str]] = {
    "main": ("Main options", "What most people need."),
    "memory": ("Memory", "Where weights and cache live, and how exactly they are kept."),
    "speed": ("Speed", "How the work is cut and spread."),
    "quantization": ("Quantization while loading", "Fewer bits a weight, through bitsandbytes."),
    "rope": ("Longer context (RoPE)", "Stretching the model's context beyond what it was trained for."),
    "other": ("Other", "Switches that few people need."),
}
