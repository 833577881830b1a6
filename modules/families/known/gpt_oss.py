"""gpt-oss (harmony): a reply is messages in channels. Analysis is thought, final is said, commentary calls tools.

`<|end|>` ends a message; the turn ends with `<|return|>` or `<|call|>`, which are the model's own end tokens.
Source: the published description of the harmony format.
"""

from __future__ import annotations

import re

from modules.families.family import Family, Header, Kind

_TO = re.compile(r"\bto=([\w.\-]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


def kind_of(header: str) -> tuple[Kind, str]:
    """What a header announces: `<|channel|>commentary to=functions.NAME <|constrain|>json`, for one."""
    to = _TO.search(header)
    if to and to[1] not in ("assistant", "user"):
        return "call", to[1]
    # the opening of a header is not in it where it is `<|channel|>` itself
    channel = _CHANNEL.search(header) or re.match(r"\s*(\w+)", header)
    return ("thought" if channel and channel[1] == "analysis" else "text"), ""


FAMILY = Family(
    name="gpt_oss",
    signs=("<|channel|>", "<|message|>"),
    header=Header(
        openings=("<|start|>", "<|channel|>"),
        end="<|message|>",
        kind_of=kind_of,
        initial=("<|channel|>", " to=", "<|start|>", "<|message|>"),
        stops=("<|end|>", "<|return|>", "<|call|>"),
    ),
    others=("<|start|>user", "<|start|>system", "<|start|>developer"),
    forced=("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", ""),
    answer="<|end|><|start|>assistant<|channel|>final<|message|>",
)
