"""gpt-oss (harmony): a reply is a series of messages in channels: analysis is reasoning, final is the answer,
commentary calls tools.

`<|end|>` ends a message; the turn ends with `<|return|>` or `<|call|>`, which are the model's own end tokens. Source:
the published description of the harmony format.
"""

from __future__ import annotations

import re

from modules.families.call_form import CallForm
from modules.families.family import Family, HeaderMarks, Kind

_TO = re.compile(r"\bto=([\w.\-]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


def kind_of(header: str) -> tuple[Kind, str]:
    """What a header announces, such as `<|channel|>commentary to=functions.NAME <|constrain|>json`."""
    to = _TO.search(header)
    if to and to[1] not in ("assistant", "user"):
        return "call", to[1]
    # the opening of a header is not part of it if it is `<|channel|>` itself
    channel = _CHANNEL.search(header) or re.match(r"\s*(\w+)", header)
    return ("thought" if channel and channel[1] == "analysis" else "text"), ""


FAMILY = Family(
    name="gpt_oss",
    signs=("<|channel|>", "<|message|>"),
    header=HeaderMarks(
        openings=("<|start|>", "<|channel|>"),
        end="<|message|>",
        kind_of=kind_of,
        initial=("<|channel|>", " to=", "<|start|>", "<|message|>"),
        stops=("<|end|>", "<|return|>", "<|call|>"),
    ),
    others=("<|start|>user", "<|start|>system", "<|start|>developer"),
    forms=(CallForm("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", ""),),
    answer="<|end|><|start|>assistant<|channel|>final<|message|>",
)
