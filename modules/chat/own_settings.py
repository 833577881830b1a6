"""What a conversation keeps of its replies' settings: parameters, what shapes the prompt, and a system message.

They are in the conversation's file under one key, which other programs ignore. Such a file may come from anywhere: a
value that is not valid is not used, and a sentence says so. This module must not know how a prompt is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from errors import InvalidInput
from loaders.knobs import Knobs
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation
from modules.chat.prompt_knobs import PromptKnobs
from modules.chat.reply_settings import ReplySettings

Kind = TypeVar("Kind", bound=Knobs)

#: Its key in `meta`, and in the file.
KEY = "own_settings"


@dataclass(frozen=True)
class OwnSettings:
    """`params`: the parameters with which replies are generated here; None: those of the page. `system`: the system
    message, in the chat modes the context instead of the character's; "": the usual one. `notes`: what is not valid.
    `prompt`: those of PromptKnobs that replies here have, whatever the page has; the others are the page's.
    """

    params: SamplingParams | None = None
    system: str = ""
    notes: tuple[str, ...] = ()
    prompt: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.params is not None or bool(self.system) or bool(self.prompt)

    @classmethod
    def of(cls, conversation: Conversation) -> OwnSettings:
        """Those of a conversation; most have none."""
        kept = conversation.meta.get(KEY)
        if not isinstance(kept, Mapping):
            return cls()
        system, given, shaping = kept.get("system"), kept.get("params"), kept.get("prompt")
        params, notes = _checked(SamplingParams, given) if isinstance(given, Mapping) else (None, ())
        prompt, more = _checked(PromptKnobs, shaping) if isinstance(shaping, Mapping) else (None, ())
        return cls(
            params,
            system if isinstance(system, str) and system.strip() else "",
            (*notes, *more),
            prompt.model_dump(include=prompt.model_fields_set) if prompt else {},
        )

    def keep(self, conversation: Conversation) -> None:
        """Make them the conversation's own: of the parameters, only what differs from the defaults is stored."""
        kept: dict[str, Any] = {}
        if self.params is not None:
            kept["params"] = to_plain_values(self.params)
        if self.system.strip():
            kept["system"] = self.system
        if self.prompt:
            kept["prompt"] = dict(self.prompt)
        conversation.meta.pop(KEY, None)
        if kept:
            conversation.meta[KEY] = kept


def with_own_settings(turn: ReplySettings, conversation: Conversation) -> ReplySettings:
    """The settings of a reply in this conversation: its own take precedence over the page's."""
    own = OwnSettings.of(conversation)
    if not own and not own.notes:
        return turn
    params = turn.params if own.params is None else own.params
    turn = replace(turn, params=params, notes=(*turn.notes, *own.notes), own=tuple(own.prompt), **own.prompt)
    if not own.system:
        return turn
    if turn.mode == "instruct":
        return replace(turn, custom_system_message=own.system)
    return replace(turn, context=own.system)


def to_plain_values(params: SamplingParams) -> dict[str, Any]:
    """The values that differ from the defaults, as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.differing().items()}


def _checked(kind: type[Kind], given: Mapping[str, Any]) -> tuple[Kind, tuple[str, ...]]:
    """The valid ones of these knobs, and a sentence about each of the others."""
    values, notes = dict[str, Any](), list[str]()
    for name in kind.spellings().keys() & given.keys():
        try:
            kind.parse({name: given[name]})
            values[name] = given[name]
        except InvalidInput as error:
            notes.append(f"A parameter that this chat keeps was not used: {error}")
    if unknown := given.keys() - kind.spellings().keys():
        named = ", ".join(sorted(f"{name:.40}" for name in unknown)[:3])
        notes.append(f"This chat keeps parameters that this version does not know and did not use: {named}.")
    return kind.parse(values), tuple(sorted(notes))
