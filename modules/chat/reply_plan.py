"""What a reply is written from: the model, its prompt and the settings. The same for replies that are stored and for
those that nobody has asked for yet.

It must not know where a conversation is stored, or whether it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loaders.params import SamplingParams
from modules.chat.conversation import Conversation, Message
from modules.chat.prompt.build import ChatPrompt
from modules.chat.reply import ActiveReply, Reply, ReplyStore
from modules.chat.reply_settings import ReplySettings
from modules.extensions import HookContext
from modules.generation.session import ModelSession
from modules.generation.stream import TextStream


@dataclass(frozen=True)
class ReplyPlan:
    """In this order: `start`, then a message (`place` makes a new one), then `reply`."""

    session: ModelSession
    prompt: ChatPrompt
    turn: ReplySettings

    def start(self, params: SamplingParams, context: HookContext, label: str, **how: Any) -> TextStream:
        """Queue the request; `how` as in ModelSession.start. Raises: UserError."""
        prompt = self.prompt
        return self.session.start(
            prompt.text,
            params,
            stop=prompt.stop,
            keep=prompt.keeps,
            reading=prompt.reading,
            label=label,
            context=context,
            **how,
        )

    def place(self, conversation: Conversation, parent: str | None) -> Message:
        """A new message for the reply, which answers `parent`."""
        return conversation.add("assistant", self.turn.start_with, parent, unfinished=True)

    def reply(
        self,
        conversation: Conversation,
        message: Message,
        stream: TextStream,
        store: ReplyStore,
        *,
        live: ActiveReply,
        **how: Any,
    ) -> Reply:
        """The reply, which writes the stream's text into this message; `how` as in Reply."""
        live.message_id = message.id
        live.read = lambda: message.text
        live.attach(stream)
        prompt, turn = self.prompt, self.turn
        return Reply(
            conversation,
            live,
            stream,
            store,
            notes=(*turn.notes, *self.session.notes, *prompt.notes),
            others=prompt.others,
            reading=prompt.reading,
            about={"mode": turn.mode, "dropped": prompt.dropped, "params": turn.params.differing()},
            **how,
        )
