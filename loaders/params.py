"""The sampling parameters, each declared once, and the base of all loaders' load options.

The Parameters tab, the presets' keys, the API's fields and the documentation's tables are generated from these fields.
This module must not know how a knob is shown, or how an engine implements it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, model_validator

from loaders.knobs import Knobs, knob
from loaders.nearest_value import Fallbacks, as_other_writes

#: The groups of the Parameters tab by purpose. Name to title and description.
GROUPS: Mapping[str, tuple[str, str]] = {
    "length": ("Length", "How long replies can be, and how fast they are shown."),
    "randomness": ("Randomness", "How far the choice can deviate from the most likely token."),
    "truncation": ("Truncation", "Which unlikely tokens are excluded."),
    "repetition": ("Repetition", "How strongly repetition is avoided."),
    "guidance": (
        "Guidance and beam search",
        "Steer away from a negative prompt, or search for the best reply instead of sampling.",
    ),
    "stopping": ("Stopping and tokens", "Where a reply ends, and which tokens it can contain."),
    "order": ("Order and seed", "The order of the samplers, and how to reproduce a reply."),
    "grammar": ("Grammar", "A format that the reply must follow."),
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
    """Sampler names from a list, or from text with one name per line (or commas)."""
    if isinstance(value, str):
        value = value.replace(",", "\n").split("\n")
    if isinstance(value, list | tuple):
        return tuple(str(name).strip() for name in value if str(name).strip())
    return value


def _text(value: Any) -> Any:
    """A text, also if a client or a YAML file has a number, or a list of strings or numbers, instead."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False)
    return "" if value is None else value


def _not_negative(value: Any) -> Any:
    """Negative values mean off, like 0: some clients send them."""
    try:
        return 0 if float(value) < 0 else value
    except (TypeError, ValueError, OverflowError):
        return value


Text = Annotated[str, BeforeValidator(_text)]
Share = Annotated[float, BeforeValidator(_not_negative)]
Count = Annotated[int, BeforeValidator(_not_negative)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class SamplingParams(Knobs):
    """How a reply is sampled from the model's distributions. Defaults are neutral: they change nothing."""

    # --- length ---
    max_new_tokens: int = knob(
        512, ge=1, range=(1, 4096, 1), group="length",
        help="Maximum length of a reply in tokens. The rest of the context is available for the prompt.",
    )  # fmt: skip
    auto_max_new_tokens: bool = knob(
        False, group="length", help="Let a reply use all of the context that the prompt does not need."
    )
    truncation_length: int = knob(
        0, ge=0, range=(0, 200_000, 256), group="length",
        help="Maximum tokens of prompt and reply together. 0 is the model's full context.",
    )  # fmt: skip
    truncation_keep: float = knob(
        0.75, ge=0.1, le=1, range=(0.1, 1, 0.05), group="length", advanced=True,
        help="When a chat no longer fits, its oldest messages are left out until about this part of the prompt's room "
        "is used, so that the next prompts begin alike and are reused. 1 leaves out as few as possible each time.",
    )  # fmt: skip
    min_length: int = knob(
        0, ge=0, range=(0, 2000, 1), group="length", preset=True, aliases=("min_tokens",),
        help="Minimum length of a reply in tokens.",
    )  # fmt: skip
    max_tokens_second: float = knob(
        0, ge=0, range=(0, 20, 1), group="length", advanced=True,
        help="Maximum tokens per second, for reading along. 0 is unlimited.",
    )  # fmt: skip
    max_updates_second: float = knob(
        0, ge=0, range=(0, 24, 1), group="length", advanced=True,
        help="Maximum updates of the page per second. 0 is every token.",
    )  # fmt: skip
    stream: bool = knob(
        True, group="length", help="Show a reply while it is being generated.",
        help_off="Show a reply only when it is complete.",
    )  # fmt: skip

    # --- randomness ---
    temperature: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True,
        help="Below 1, likely tokens become more likely; above 1, less. 0 always picks the most likely token.",
    )  # fmt: skip
    temperature_last: bool = knob(
        False, group="randomness", preset=True,
        help="Apply temperature after all other samplers instead of in the order below.",
    )  # fmt: skip
    dynamic_temperature: bool = knob(
        False, group="randomness", preset=True,
        help="Choose the temperature for each token between the minimum and the maximum, by how uncertain the model "
        "is.",
    )  # fmt: skip
    dynatemp_low: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True, advanced=True,
        help="Minimum of dynamic temperature (at lowest entropy).",
    )  # fmt: skip
    dynatemp_high: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True, advanced=True,
        help="Maximum of dynamic temperature (at highest entropy).",
    )  # fmt: skip
    dynatemp_exponent: float = knob(
        1.0, ge=0, range=(0.01, 5, 0.01), group="randomness", preset=True, advanced=True,
        help="Shape of dynamic temperature: T = low + (high - low) * (H / H_max)^exponent, with the entropy H.",
    )  # fmt: skip
    smoothing_factor: float = knob(
        0.0, ge=0, range=(0, 10, 0.01), group="randomness", preset=True,
        help="Quadratic sampling: lowers each logit by the square of its distance from the highest one. 0 is off.",
    )  # fmt: skip
    smoothing_curve: float = knob(
        1.0, ge=1, range=(1, 10, 0.01), group="randomness", preset=True, advanced=True,
        help="Curve of quadratic sampling: higher values suppress unlikely tokens more strongly.",
    )  # fmt: skip
    do_sample: bool = knob(
        True, group="randomness", preset=True, help="Sample tokens at random by their probability. Off: always pick "
        "the most likely token.",
        help_off="Disable sampling: always pick the most likely token.",
    )  # fmt: skip
    mirostat_mode: int = knob(
        0, ge=0, le=2, range=(0, 2, 1), group="randomness", preset=True,
        help="Mirostat keeps the perplexity of the text near a target. 0 is off; 1 and 2 are its versions.",
    )  # fmt: skip
    mirostat_tau: float = knob(
        5.0, ge=0, range=(0, 10, 0.01), group="randomness", preset=True, advanced=True,
        help="Target of Mirostat: surprise in bits per token.",
    )  # fmt: skip
    mirostat_eta: float = knob(
        0.1, ge=0, range=(0, 1, 0.01), group="randomness", preset=True, advanced=True,
        help="Learning rate of Mirostat.",
    )  # fmt: skip
    adaptive_target: Share = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="randomness", preset=True,
        help="Adaptive-p: prefer tokens with a probability near this value. 0 is off.",
    )  # fmt: skip
    adaptive_decay: float = knob(
        0.9, ge=0, le=0.99, range=(0, 0.99, 0.01), group="randomness", preset=True, advanced=True,
        help="How long Adaptive-p takes the probabilities of earlier tokens into account.",
    )  # fmt: skip

    # --- truncation ---
    top_p: float = knob(
        1.0, ge=0, le=1, range=(0, 1, 0.01), group="truncation", preset=True,
        help="Keep the most likely tokens whose probabilities add up to this value. 1 is off.",
    )  # fmt: skip
    min_p: float = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="truncation", preset=True,
        help="Exclude tokens below this fraction of the most likely token's probability. 0 is off.",
    )  # fmt: skip
    top_k: Count = knob(
        0, ge=0, range=(0, 200, 1), group="truncation", preset=True,
        help="Keep only this many of the most likely tokens. 0 is off.",
    )  # fmt: skip
    typical_p: float = knob(
        1.0, ge=0, le=1, range=(0, 1, 0.01), group="truncation", preset=True, aliases=("typical",),
        help="Keep the tokens whose information content is closest to the entropy, up to this total probability. 1 is "
        "off.",
    )  # fmt: skip
    tfs: float = knob(
        1.0, ge=0, le=1, range=(0, 1, 0.01), group="truncation", preset=True, advanced=True,
        help="Tail-free sampling: exclude tokens where the sorted probabilities level off. 1 is off.",
    )  # fmt: skip
    top_a: float = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="truncation", preset=True, advanced=True,
        help="Exclude tokens below this value times the square of the highest probability. 0 is off.",
    )  # fmt: skip
    epsilon_cutoff: float = knob(
        0.0, ge=0, range=(0, 9, 0.01), group="truncation", preset=True, advanced=True,
        help="Exclude tokens below this probability, in units of 1e-4. 0 is off.",
    )  # fmt: skip
    eta_cutoff: float = knob(
        0.0, ge=0, range=(0, 20, 0.01), group="truncation", preset=True, advanced=True,
        help="Like epsilon_cutoff, but with a lower limit where the model is uncertain; in units of 1e-4. 0 is off.",
    )  # fmt: skip
    top_n_sigma: float = knob(
        0.0, ge=0, range=(0, 5, 0.01), group="truncation", preset=True, aliases=("nsigma",),
        help="Keep logits within this many standard deviations of the highest one. 0 is off.",
    )  # fmt: skip
    xtc_threshold: float = knob(
        0.1, ge=0, le=1, range=(0, 0.5, 0.01), group="truncation", preset=True,
        help="Exclude Top Choices: of the tokens above this probability, keep only the least likely one.",
    )  # fmt: skip
    xtc_probability: float = knob(
        0.0, ge=0, le=1, range=(0, 1, 0.01), group="truncation", preset=True,
        help="Probability that XTC is applied to a token. 0 is off.",
    )  # fmt: skip

    # --- repetition ---
    repetition_penalty: float = knob(
        1.0, ge=0.01, range=(1, 1.5, 0.01), group="repetition", preset=True, aliases=("rep_pen", "repeat_penalty"),
        help="Penalty factor for tokens that have been used before. 1 is off.",
    )  # fmt: skip
    presence_penalty: float = knob(
        0.0, range=(0, 2, 0.05), group="repetition", preset=True,
        help="Subtracted once from the logit of each token that has been used before. 0 is off.",
    )  # fmt: skip
    frequency_penalty: float = knob(
        0.0, range=(0, 2, 0.05), group="repetition", preset=True,
        help="Subtracted from a token's logit for each time it has been used. 0 is off.",
    )  # fmt: skip
    repetition_penalty_range: int = knob(
        1024, ge=0, range=(0, 4096, 64), group="repetition", preset=True, aliases=("rep_pen_range", "repeat_last_n"),
        help="How many of the most recent tokens, including the prompt, the penalties above and DRY consider. 0 is "
        "all.",
    )  # fmt: skip
    encoder_repetition_penalty: float = knob(
        1.0, ge=0.01, range=(0.8, 1.5, 0.01), group="repetition", preset=True, advanced=True,
        help="Above 1, tokens of the prompt are more likely; below 1, less. 1 is off.",
    )  # fmt: skip
    no_repeat_ngram_size: int = knob(
        0, ge=0, range=(0, 20, 1), group="repetition", preset=True, advanced=True,
        help="Never repeat a sequence of this many tokens. 0 is off.",
    )  # fmt: skip
    dry_multiplier: float = knob(
        0.0, ge=0, range=(0, 5, 0.01), group="repetition", preset=True,
        help="DRY penalizes tokens that would extend a repetition, more strongly the longer it is. 0 is off; try 0.8.",
    )  # fmt: skip
    dry_base: float = knob(
        1.75, ge=1, range=(1, 4, 0.01), group="repetition", preset=True, advanced=True,
        help="Growth of the DRY penalty: multiplier * base^(length - allowed length).",
    )  # fmt: skip
    dry_allowed_length: int = knob(
        2, ge=0, range=(1, 20, 1), group="repetition", preset=True, advanced=True,
        help="Length of repetitions in tokens that DRY does not penalize.",
    )  # fmt: skip
    dry_sequence_breakers: Text = knob(
        '"\\n", ":", "\\"", "*"', group="repetition", preset=True, advanced=True,
        help="Quoted strings, separated by commas, across which DRY does not match repetitions.",
    )  # fmt: skip

    # --- guidance ---
    guidance_scale: float = knob(
        1.0, range=(-0.5, 2.5, 0.05), group="guidance", preset=True,
        help="CFG: how strongly to steer away from the negative prompt. 1 is off; try 1.5.",
    )  # fmt: skip
    negative_prompt: Text = knob(
        "", lines=3, group="guidance",
        help="What the reply should not be like, as an instruction. Used when guidance_scale is not 1.",
    )  # fmt: skip
    penalty_alpha: float = knob(
        0.0, ge=0, range=(0, 5, 0.01), group="guidance", preset=True, advanced=True,
        help="Contrastive search; needs do_sample off and top_k above 1. 0 is off.",
    )  # fmt: skip
    num_beams: int = knob(
        1, ge=1, range=(1, 20, 1), group="guidance", preset=True, advanced=True,
        help="Beam search: number of beams. 1 is off.",
    )  # fmt: skip
    length_penalty: float = knob(
        1.0, range=(-5, 5, 0.1), group="guidance", preset=True, advanced=True,
        help="Beam search: above 0 favors longer replies, below 0 shorter ones.",
    )  # fmt: skip
    early_stopping: bool = knob(
        False, group="guidance", preset=True, advanced=True,
        help="Beam search: stop as soon as there are enough complete candidates.",
    )  # fmt: skip
    prompt_lookup_num_tokens: int = knob(
        0, ge=0, range=(0, 10, 1), group="guidance", advanced=True,
        help="Prompt lookup: draft this many tokens ahead from matching text in the prompt. 0 is off.",
    )  # fmt: skip

    # --- stopping and tokens ---
    custom_stopping_strings: Text = knob(
        "", lines=2, group="stopping",
        help='Stop a reply before any of these strings. Quoted, separated by commas: "\\n", "\\nYou:"',
    )  # fmt: skip
    banned_strings: Text = knob(
        "", lines=4, group="stopping",
        help="Words and phrases that never appear in a reply, one per line; /.../ is a regular expression. When one "
        "has begun, the reply goes back and continues differently.",
    )  # fmt: skip
    banned_strings_ignore_case: bool = knob(
        True, neutral=True, group="stopping", advanced=True, help="Find banned strings in any case.",
        help_off="Find banned strings only in the case in which they are written.",
    )  # fmt: skip
    custom_token_bans: Text = knob(
        "", lines=2, group="stopping", help="IDs of tokens that are never generated, separated by commas."
    )
    ban_eos_token: bool = knob(
        False, group="stopping", aliases=("ignore_eos",),
        help="Ban the end-of-sequence token: replies continue up to max_new_tokens.",
    )  # fmt: skip
    token_healing: bool = knob(
        False, group="stopping", advanced=True,
        help="Token healing: if the prompt ends inside a word, its last tokens are chosen again together with the "
        "reply.",
    )  # fmt: skip
    add_bos_token: bool = knob(
        True, neutral=True, group="stopping", help="Add the model's start token (BOS) to the prompt.",
        help_off="Do not add the model's start token (BOS) to the prompt.",
    )  # fmt: skip
    skip_special_tokens: bool = knob(
        True, neutral=True, group="stopping", help="Hide control tokens such as <|im_end|> in the text.",
        help_off="Show control tokens such as <|im_end|> in the text.",
    )  # fmt: skip
    control_tokens_in_messages: bool = knob(
        False, group="stopping", advanced=True,
        help="Treat a control token written in a message, such as <|im_end|>, as that token and not as text.",
    )  # fmt: skip

    # --- order and seed ---
    seed: int = knob(
        -1, ge=-1, group="order", help="The same seed, prompt and parameters give the same reply. -1 is random."
    )
    sampler_priority: Names = knob(
        SAMPLERS, lines=12, group="order", preset=True, advanced=True,
        help="Order of the samplers, one name per line. Samplers not listed keep their usual place.",
    )  # fmt: skip

    # --- grammar ---
    grammar_string: Text = knob("", lines=12, group="grammar", help="A GBNF grammar that every reply must follow.")


class LoadOptions(Knobs):
    """How a model is loaded: the base of every loader's options, and what they all share."""

    #: Options that only apply together with another one, and that one: alone, they are refused.
    NEEDS: ClassVar[Mapping[str, str]] = {}
    #: What is used instead of values that other programs have.
    FALLBACKS: ClassVar[Fallbacks] = {}

    @model_validator(mode="before")
    @classmethod
    def _as_others_write_them(cls, values: Any) -> Any:
        """Accept values in the spellings of other programs and versions."""
        if not isinstance(values, Mapping):
            return values
        knobs, spellings = cls.knobs(), cls.spellings()
        return {
            key: as_other_writes(value, knobs[spellings[key]], cls.FALLBACKS) if key in spellings else value
            for key, value in values.items()
        }


#: The groups of load options: the common ones, and the rest, which is collapsed.
LOAD_GROUPS: Mapping[str, tuple[str, str]] = {
    "main": ("Main options", "The options that most people need."),
    "memory": ("Memory", "Where weights and cache are stored, and at what precision."),
    "speed": ("Speed", "How the work is batched and distributed."),
    "quantization": ("Quantization while loading", "Fewer bits per weight, with bitsandbytes."),
    "rope": ("Longer context (RoPE)", "Extend the context beyond the length that the model was trained for."),
    "other": ("Other", "Options that few people need."),
}
