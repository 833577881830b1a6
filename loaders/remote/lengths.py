"""Whether a server's refusal says that the prompt is too long, and the numbers in it, if it is certain what they mean.

The sentences are those of vLLM, SGLang, llama-server, TabbyAPI and OpenAI. It must not know how requests are sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_N = r"\d[\d,]*"
_END = r"\b(?![\d,]|\.\d| (?:character|byte|item|message|image|word)s?\b)"

#: Each names the prompt's tokens and the context's, and those of the reply where they count, too.
_FORMS = tuple(
    re.compile(form, re.I)
    for form in (
        rf"is too large: (?P<reply>{_N})\. .*?context length is (?P<context>{_N}) tokens and your request has "
        rf"(?P<prompt>{_N}) input tokens",
        rf"context length (?:is|of) (?P<context>{_N}) tokens.*?\b(?P<prompt>{_N}) (?:tokens )?(?:in|from) "
        rf"(?:the|your) (?:input )?(?:messages|prompt)[,;]? (?:and )?(?P<reply>{_N}) (?:tokens )?(?:in|for) the "
        "completion",
        rf"context length is (?P<context>{_N}) tokens[.,] however,? your (?:messages|input|prompt|request) "
        rf"(?:resulted in|has|contains) (?P<prompt>{_N}) (?:input )?tokens",
        rf"\b(?:prompt|input|request|context)\b[^.\d]{{0,20}}(?P<prompt>{_N})(?: tokens)?\)? "
        rf"(?:is (?:longer|greater|larger|too long)|exceeds)\b[^.\d]{{1,60}}(?P<context>{_N}){_END}",
        rf"\bprompt is too long: (?P<prompt>{_N}) tokens > (?P<context>{_N}) maximum",
    )
)
#: Other ways of saying it, without numbers that are certain.
_SAID = re.compile(
    r"\b(?:maximum|available|exceed\w*|model's|longer than|greater than|larger than|fit\b)[^.]{0,80}"
    r"\bcontext[ _-](?:length|size|window)"
    r"|\bcontext[ _-](?:length|size|window)[^.]{0,60}\bexceed"
    r"|\b(?:prompt|input|context|request)\b[^.:]{0,40}\b(?:is too (?:long|large)|(?:exceeds|is (?:longer|greater) than)"
    r"[^.]{0,40}(?:length|context|tokens|max_seq_len|max_model_len))",
    re.I,
)
_CODES = frozenset(("context_length_exceeded", "exceed_context_size_error"))


@dataclass(frozen=True)
class Lengths:
    """Tokens of a prompt that does not fit, and how many would; `reply`: those of the reply count, too."""

    prompt: int
    room: int
    reply: bool = False


def is_too_long(said: str, answer: Any) -> bool:
    """Whether this is said of the prompt; `answer` is the whole one. Other limits are others' matter."""
    error = _error(answer)
    if not _CODES.isdisjoint(each for each in (error.get("type"), error.get("code")) if isinstance(each, str)):
        return True
    return bool(_SAID.search(said)) or find_lengths(said, answer) is not None


def find_lengths(said: str, answer: Any) -> Lengths | None:
    """None if it is not certain what the numbers in it mean."""
    error = _error(answer)
    own = error.get("n_prompt_tokens"), error.get("n_ctx")
    if type(own[0]) is int and type(own[1]) is int:  # llama-server's
        return _consistent(own[0], own[1], 0)
    for form in _FORMS:
        if found := form.search(said):
            numbers = {name: int(text.replace(",", "")) for name, text in found.groupdict().items()}
            return _consistent(numbers["prompt"], numbers["context"], numbers.get("reply", 0))
    return None


def _consistent(prompt: int, context: int, reply: int) -> Lengths | None:
    """None where the prompt would fit. Some servers want room for a token of the reply."""
    if prompt <= 0 or context <= 0 or prompt < context - reply:
        return None
    return Lengths(prompt, max(min(context - reply, prompt - 1), 0), reply > 0)


def _error(answer: Any) -> dict[str, Any]:
    error = answer.get("error", answer) if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}
