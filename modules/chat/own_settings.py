"""What a conversation keeps of its replies' settings: parameters of its own, and a system message of its own.

They are in the conversation's file under one key, which other programs ignore. Such a file may come from anywhere: a
value that is not valid is not used, and a sentence says so. This module must not know how a prompt is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from errors import InvalidInput
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation
from modules.chat.reply_settings import ReplySettings

#: Its key in `meta`, and in the file.
KEY = "own_settings"


@dataclass(frozen=True)
class OwnSettings:
    """`params`: the parameters with which replies are generated here; None: those of the page. `system`: the system
    message, in the chat modes the context instead of the character's; "": the usual one. `notes`: what is not valid.
    """

    params: SamplingParams | None = None
    system: str = ""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.params is not None or bool(self.system)

    @classmethod
    def of(cls, conversation: Conversation) -> OwnSettings:
        """Those of a conversation; most have none."""
        kept = conversation.meta.get(KEY)
        if not isinstance(kept, Mapping):
            return cls()
        system, given = kept.get("system"), kept.get("params")
        params, notes = _checked(given) if isinstance(given, Mapping) else (None, ())
        return cls(params, system if isinstance(system, str) and system.strip() else "", notes)

    def keep(self, conversation: Conversation) -> None:
        """Make them the conversation's own: only what differs from the defaults is stored."""
        kept: dict[str, Any] = {}
        if self.params is not None:
            kept["params"] = to_plain_values(self.params)
        if self.system.strip():
            kept["system"] = self.system
        conversation.meta.pop(KEY, None)
        if kept:
            conversation.meta[KEY] = kept


def with_own_settings(turn: ReplySettings, conversation: Conversation) -> ReplySettings:
    """The settings of a reply in this conversation: its own take precedence over the page's."""
    own = OwnSettings.of(conversation)
    if not own:
        return turn
    params = turn.params if own.params is None else own.params
    turn = replace(turn, params=params, notes=(*turn.notes, *own.notes))
    if not own.system:
        return turn
    if turn.mode == "instruct":
        return replace(turn, custom_system_message=own.system)
    return replace(turn, context=own.system)


def to_plain_values(params: SamplingParams) -> dict[str, Any]:
    """The values that differ from the defaults, as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.differing().items()}


def _checked(given: Mapping[str, Any]) -> tuple[SamplingParams, tuple[str, ...]]:
    """The valid ones of these parameters, and a sentence about each of the others."""
    values, notes = dict[str, Any](), list[str]()
    for name in SamplingParams.spellings().keys() & given.keys():
        try:
            SamplingParams.parse({name: given[name]})
            values[name] = given[name]
        except InvalidInput as error:
            notes.append(f"A parameter that this chat keeps was not used: {error}")
    if unknown := given.keys() - SamplingParams.spellings().keys():
        named = ", ".join(sorted(f"{name:.40}" for name in unknown)[:3])
        notes.append(f"This chat keeps parameters that this version does not know and did not use: {named}.")
    return SamplingParams.parse(values), tuple(sorted(notes))
