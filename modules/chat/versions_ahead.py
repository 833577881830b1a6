"""Versions of a reply that are written before anybody asks for them, and what they were made from.

A version is only shown if it could be the answer now. This module must not know how they are written.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from loaders.base import Lora, Model
from loaders.params import SamplingParams
from modules.chat.conversation import Message
from modules.chat.prompt.build import ChatPrompt
from modules.chat.reply_settings import ReplySettings
from modules.chat.store.prompt_log import PromptRecord
from modules.generation.session import ModelSession


@dataclass(frozen=True)
class Origin:
    """All that a reply is made from: equal for what would be asked now and for a version that is written."""

    prompt: str
    params: SamplingParams
    model: weakref.ref[Model]  # one that was loaded again may be another file
    loras: tuple[Lora, ...]

    @classmethod
    def of(cls, session: ModelSession, prompt: ChatPrompt, params: SamplingParams) -> Origin:
        return cls(prompt.text, params, weakref.ref(session.model), tuple(session.model.loras))


@dataclass(frozen=True)
class VersionAhead:
    """A reply that is written and not stored, and its prompt."""

    message: Message
    record: PromptRecord
    origin: Origin


@dataclass
class VersionsAhead:
    """Further versions of the last reply of `path`, written with these settings."""

    path: list[tuple[str, str]]
    turn: ReplySettings
    ready: list[VersionAhead] = field(default_factory=list)
