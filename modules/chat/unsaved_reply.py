"""A reply that nobody has asked for yet: written as any other, while nothing else is computed, and stored nowhere.

It must not know what it is written for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from errors import NotFound
from loaders.base import Report
from loaders.params import SamplingParams
from modules.chat.conversation import Conversation, Message
from modules.chat.prompt.build import ChatPrompt
from modules.chat.reply import ActiveReply
from modules.chat.reply_plan import ReplyPlan
from modules.chat.reply_settings import ReplySettings
from modules.extensions import HookContext
from modules.generation.session import ModelSession
from modules.generation.stream import TextStream


class _NoStore:
    """In place of the store of conversations."""

    def journal(self, id: str) -> Path | None:  # noqa: ARG002
        return None

    def save(self, conversation: Conversation, expected_revision: int | None = None) -> None:
        """Nothing is stored."""

    def open(self, id: str) -> Conversation:
        raise NotFound(f"{id} is not stored.")


def write_unsaved(
    session: ModelSession,
    conversation: Conversation,
    prompt: ChatPrompt,
    params: SamplingParams,
    turn: ReplySettings,
    *,
    label: str,
    attach: Callable[[TextStream], None],
    max_tokens: int | None = None,
    thinking_budget: int | None = None,
) -> tuple[Message | None, Report]:
    """The reply after the end of a conversation, a copy that is the caller's own and gets it as its last message; and
    the report. None if it was cancelled or is empty.

    `attach` gets the stream, by which it can be cancelled. Raises: UserError.
    """
    plan = ReplyPlan(session, prompt, turn)
    how = {"yields": True, "max_tokens": max_tokens, "thinking_budget": thinking_budget}
    stream = plan.start(params, HookContext(params, is_chat=True, words=session), label, **how)
    last = conversation.last()
    made = plan.place(conversation, last.id if last else None)
    attach(stream)
    with plan.reply(conversation, made, stream, _NoStore(), live=ActiveReply()) as reply:
        for _ in reply:
            pass
    done = conversation.message(made.id) if made.id in conversation else None
    if done and done.meta.get("finish") not in ("stop", "length"):
        done = None
    return done, stream.report
